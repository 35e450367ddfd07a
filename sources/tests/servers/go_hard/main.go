// A server whose stacks grow and shrink and whose memory is collected all the time, and a client that asks it at a rate,
// over old and new connections of HTTP/1.1 and HTTP/2, until its input ends: then it logs what it asked. What is not
// answered as it should be ends it with an error.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Deep writes from below so many frames of a kilobyte: its goroutine's stack has grown to that, and Write, if it does
// not fit, has it grow again.
//
//go:noinline
func deep(depth int, write func()) byte {
	var frame [1024]byte
	frame[depth%1024] = byte(depth)
	if depth == 0 {
		write()
		return 0
	}
	return deep(depth-1, write) + frame[depth%1024]
}

func answer(writer http.ResponseWriter, request *http.Request) {
	number, _ := strconv.Atoi(request.URL.Path[len("/hard/"):])
	body := bytes.Repeat([]byte{'h'}, number*37%6000)
	writer.Header().Set("content-length", strconv.Itoa(len(body)))
	deep(number*13%700, func() {
		writer.Write(body)
		// HTTP/1.1 is written here, on this stack.
		writer.(http.Flusher).Flush()
	})
}

var garbage [][]byte

func collect() {
	for {
		garbage = nil
		for idx := 0; idx < 64; idx++ {
			garbage = append(garbage, make([]byte, 16<<10))
		}
		// It halves the stacks that are mostly free.
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
}

func serve(dir, port string) {
	debug.SetGCPercent(5)
	go collect()
	http.HandleFunc("/hard/", answer)
	check(http.ListenAndServeTLS("127.0.0.1:"+port, dir+"/cert.pem", dir+"/key.pem", nil))
}

func client(two bool) *http.Client {
	config := &tls.Config{InsecureSkipVerify: true}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: two}
	return &http.Client{Transport: transport, Timeout: 60 * time.Second}
}

func ask(client *http.Client, port string, number int) error {
	answer, err := client.Get(fmt.Sprintf("https://127.0.0.1:%s/hard/%d", port, number))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != 200 || len(body) != number*37%6000) {
		err = fmt.Errorf("%d: %d, %d bytes", number, answer.StatusCode, len(body))
	}
	return err
}

func main() {
	dir, port, role := os.Args[1], os.Args[2], os.Args[3]
	if role == "server" {
		serve(dir, port)
	}
	rate, err := strconv.Atoi(role)
	check(err)
	const workers = 6
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	var lock sync.Mutex
	var wait sync.WaitGroup
	var log []string
	shared := client(true)
	for worker := 0; worker < workers; worker++ {
		wait.Add(1)
		go func(worker int) {
			defer wait.Done()
			own := client(false)
			if worker%2 == 1 {
				own = shared
			}
			tick := time.NewTicker(time.Second * workers / time.Duration(rate))
			for number := worker; ; number += workers {
				select {
				case <-over:
					return
				case <-tick.C:
				}
				check(ask(own, port, number))
				lock.Lock()
				log = append(log, fmt.Sprintf("/hard/%d 200 %d", number, number*37%6000))
				lock.Unlock()
				if worker%3 == 0 && number%40 < workers {
					own.CloseIdleConnections()
				}
			}
		}(worker)
	}
	wait.Wait()
	for _, line := range log {
		fmt.Println(line)
	}
}
