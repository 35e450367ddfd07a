// A server, and a client whose connections are closed by another goroutine while the one that has asked is still within
// its call: at once, or so long before the call returns that nobody remembers them. Arguments: folder, port. It says when
// it listens, goes on with a line of its input, and logs what it asked.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const times = 20

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Its first word is that of a net.TCPConn, as of one that nobody has wrapped.
type slow struct {
	net.TCPConn
	isAsking bool
	closed   chan struct{}
}

func (conn *slow) Write(bytes []byte) (int, error) {
	count, err := conn.TCPConn.Write(bytes)
	if conn.isAsking {
		<-conn.closed
	}
	return count, err
}

func ask(port, path string, before time.Duration) {
	tcp, err := net.Dial("tcp", "127.0.0.1:"+port)
	check(err)
	under := &slow{TCPConn: *tcp.(*net.TCPConn), closed: make(chan struct{})}
	conn := tls.Client(under, &tls.Config{InsecureSkipVerify: true})
	check(conn.Handshake())
	under.isAsking = true
	go func() {
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		check(err)
		size, err := io.Copy(io.Discard, answer.Body)
		check(err)
		fmt.Println(path, answer.StatusCode, size)
		check(tcp.Close())
		time.Sleep(before)
		close(under.closed)
	}()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
	check(err)
}

func main() {
	dir, port := os.Args[1], os.Args[2]
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	check(err)
	http.HandleFunc("/", func(writer http.ResponseWriter, request *http.Request) {
		io.WriteString(writer, request.URL.Path)
	})
	go http.ServeTLS(listener, nil, dir+"/cert.pem", dir+"/key.pem")
	fmt.Println("ready")
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	check(err)
	for number := 0; number < times; number++ {
		ask(port, fmt.Sprintf("/at-once/%d", number), 0)
		ask(port, fmt.Sprintf("/long-before/%d", number), 200*time.Millisecond)
	}
}
