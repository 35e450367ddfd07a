// node server.js PORT [WORKERS]: plain http, or a cluster of workers that share the port.
const cluster = require("node:cluster");
const http = require("node:http");

const [port, workers] = process.argv.slice(2).map(Number);
if (workers > 0 && cluster.isPrimary) {
  for (let n = 0; n < workers; n += 1) cluster.fork();
} else {
  http.createServer((request, response) => {
    if (request.url.startsWith("/s/")) {
      // All in one turn: node joins them into one writev of sixty buffers.
      for (let n = 0; n < 20; n += 1) response.write("ab");
      response.end();
    } else if (request.url.startsWith("/l/")) {
      for (let n = 0; n < 10; n += 1) response.write("x".repeat(12_000));
      response.end();
    } else {
      response.end(`plain ${request.url}\n`);
    }
  }).listen(port, "127.0.0.1");
}
