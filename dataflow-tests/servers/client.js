// Asks for 30 of each kind with fetch: node client.js PORT TAG
const [port, tag] = process.argv.slice(2);
(async () => {
  for (const kind of "psl") {
    for (let n = 1; n <= 30; n += 1) {
      const response = await fetch(`http://127.0.0.1:${port}/${kind}/${tag}/${n}`);
      const body = await response.text();
      if (response.status !== 200 || body === "") throw new Error(`${kind} ${n}: ${response.status}`);
    }
  }
})().catch((error) => { console.error(error); process.exit(1); });
