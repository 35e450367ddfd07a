// net/http on both sides: `server PORT`, or `client PORT TAG` for 30 of each kind.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func handle(w http.ResponseWriter, r *http.Request) {
	flush := w.(http.Flusher).Flush
	switch {
	case strings.HasPrefix(r.URL.Path, "/s/"):
		for n := 0; n < 20; n++ {
			io.WriteString(w, "ab")
			flush()
		}
	case strings.HasPrefix(r.URL.Path, "/l/"):
		for n := 0; n < 10; n++ {
			io.WriteString(w, strings.Repeat("x", 12000))
			flush()
		}
	default:
		fmt.Fprintf(w, "plain %s\n", r.URL.Path)
	}
}

func ask(port, tag string) error {
	for _, kind := range "psl" {
		for n := 1; n <= 30; n++ {
			response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%s/%c/%s/%d", port, kind, tag, n))
			if err != nil {
				return err
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != 200 || len(body) == 0 {
				return fmt.Errorf("%c %d: %d %v", kind, n, response.StatusCode, err)
			}
		}
	}
	return nil
}

func main() {
	var err error
	if os.Args[1] == "client" {
		err = ask(os.Args[2], os.Args[3])
	} else {
		err = http.ListenAndServe("127.0.0.1:"+os.Args[2], http.HandlerFunc(handle))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
