// Both ends of connections of HTTP/2 by hand, and tables of header fields that lie: addresses that lead nowhere, lengths
// beyond all, texts that are none, a table that another thread changes meanwhile. One connection a kind of lie; the
// first one tells the truth.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

const rounds = 12

// Everything that a number points to, held.
var held []any

func address(text string) (uint64, uint64) {
	bytes := []byte(text + " ")
	held = append(held, bytes)
	return uint64(uintptr(unsafe.Pointer(&bytes[0]))), uint64(len(text))
}

func entry(name, value string) hpack.Entry {
	entry := hpack.Entry{}
	entry.Name, entry.NameBytes = address(name)
	entry.Value, entry.ValueBytes = address(value)
	return entry
}

func of(entries ...hpack.Entry) hpack.Table {
	held = append(held, entries)
	table := hpack.Table{Entries: uint64(uintptr(unsafe.Pointer(&entries[0]))), Max: 4096, Allowed: 4096}
	table.Count, table.Room = uint64(len(entries)), uint64(len(entries))
	for _, entry := range entries {
		table.Bytes += uint32(32 + entry.NameBytes + entry.ValueBytes)
	}
	return table
}

// The last bytes of memory, behind which there is nothing.
func edge(bytes int) uint64 {
	page := syscall.Getpagesize()
	memory, err := syscall.Mmap(-1, 0, 2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	check(err)
	check(syscall.Mprotect(memory[page:], syscall.PROT_NONE))
	held = append(held, memory)
	return uint64(uintptr(unsafe.Pointer(&memory[page-bytes])))
}

// By number: what a table lies about.
var lies = []func(table *hpack.Table){
	func(table *hpack.Table) { *table = of(entry("x-good", "yes")) },
	func(table *hpack.Table) { table.Count, table.Room = 1<<40, 1<<41 },
	func(table *hpack.Table) { table.Count, table.Room = 1<<63, 1<<63 },
	func(table *hpack.Table) { table.Entries = 0xffff888000000000 },
	func(table *hpack.Table) { table.Entries = 8 },
	func(table *hpack.Table) { table.Entries = edge(20) },
	func(table *hpack.Table) { table.Bytes++ },
	func(table *hpack.Table) { table.Max = table.Bytes - 1 },
	func(table *hpack.Table) { table.Bytes, table.Max = 1<<31, 1<<32-1 },
	func(table *hpack.Table) { table.Room = table.Count - 1 },
	func(table *hpack.Table) { table.Count, table.Room = 0, 0 },
	func(table *hpack.Table) { *table = of(entry("x-Evil", "evil")) },
	func(table *hpack.Table) { *table = of(entry("x-evil", "evil\nevil")) },
	func(table *hpack.Table) { *table = of(entry("", "evil")) },
	func(table *hpack.Table) {
		one := entry("x-evil", "evil")
		one.NameBytes = 1 << 63
		*table = of(one)
	},
	func(table *hpack.Table) {
		one := entry("x-evil", "evil")
		one.ValueBytes = 1<<32 + 4
		*table = of(one)
	},
	func(table *hpack.Table) {
		one := entry("x-evil", "evil")
		one.Value, one.ValueBytes = edge(100), 101
		*table = of(one)
	},
	func(table *hpack.Table) {
		one := entry("x-evil", "evil")
		one.Name = 0xffffffffff600000
		*table = of(one)
	},
	// As many bytes as an entry may have, 256 times: more than any record has room for.
	func(table *hpack.Table) {
		one, all := entry("x-evil", "evil"), make([]hpack.Entry, 256)
		one.Value, one.ValueBytes = edge(1024), 1024
		for idx := range all {
			all[idx] = one
		}
		*table = of(all...)
		table.Bytes = 16384
		table.Max = 65536
	},
	func(table *hpack.Table) { *table = of(make([]hpack.Entry, 256)...); table.Max = 65536 },
	// Changed all the time, from nothing to anything.
	func(table *hpack.Table) {
		good := *table
		go func() {
			for n := uint64(0); ; n++ {
				table.Count, table.Room = n%300, 300
				table.Bytes = uint32(n * 31 % 20000)
				table.Entries = good.Entries + n%64
			}
		}()
	},
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// A header block in a frame. Field 62 is what was put into the table first.
func headers(stream uint32, block []byte) []byte {
	head := []byte{0, 0, byte(len(block)), 1, 5, 0, 0, byte(stream >> 8), byte(stream)}
	return append(head, block...)
}

func literal(first byte, texts ...string) []byte {
	bytes := []byte{first}
	for _, text := range texts {
		bytes = append(append(bytes, byte(len(text))), text...)
	}
	return bytes
}

type end struct {
	conn    *tls.Conn
	decoder *hpack.Decoder
	encoder *hpack.Encoder
	// What an encoder writes to: a slice of bytes, and whose it is.
	buffer *[6]uint64
	lie    int
}

func newEnd(conn *tls.Conn, lie int) *end {
	e := &end{conn: conn, lie: lie, buffer: &[6]uint64{}}
	e.decoder = &hpack.Decoder{Table: of(entry("x-evil", "evil"))}
	e.encoder = &hpack.Encoder{Table: of(entry("x-evil", "evil"))}
	lies[lie](&e.decoder.Table)
	lies[lie](&e.encoder.Table)
	e.encoder.Buffer = uint64(uintptr(unsafe.Pointer(e.buffer)))
	held = append(held, e)
	return e
}

func (e *end) send(stream uint32, block []byte) {
	at := uint64(uintptr(unsafe.Pointer(&block[0])))
	*e.buffer = [6]uint64{at, 0, 64}
	check(e.encoder.WriteField("field"))
	e.buffer[1] = uint64(len(block))
	switch e.lie % 5 {
	case 1:
		e.buffer[0] = 0xffff888000000000
	case 2:
		e.buffer[1] = 1 << 62
	case 3:
		// It says that it is within what holds the connection.
		e.buffer[5] = uint64(uintptr(unsafe.Pointer(e.encoder)))
	case 4:
		e.encoder.Buffer = 0xffff888000000000
	}
	_, err := e.conn.Write(headers(stream, block))
	check(err)
	e.encoder.Buffer = uint64(uintptr(unsafe.Pointer(e.buffer)))
}

// False: it is over.
func (e *end) receive() bool {
	frame := make([]byte, 1024)
	count, err := e.conn.Read(frame)
	if err == io.EOF {
		return false
	}
	check(err)
	e.decoder.Write(frame[9:count])
	return true
}

func serve(conn *tls.Conn, lie int) {
	e := newEnd(conn, lie)
	preface := make([]byte, 24)
	_, err := io.ReadFull(conn, preface)
	check(err)
	for stream := uint32(1); e.receive(); stream += 2 {
		block := []byte{0x88, 0xbe}
		if stream == 1 {
			block = append([]byte{0x88}, literal(0x40, "x-first", "1")...)
		}
		e.send(stream, block)
	}
}

func client(conn *tls.Conn, lie int, goOn <-chan struct{}, ready, done *sync.WaitGroup) {
	defer done.Done()
	e := newEnd(conn, lie)
	_, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	check(err)
	for round := 0; round < 2*rounds; round++ {
		if round == rounds {
			ready.Done()
			<-goOn
		}
		// GET, https, a path that no table has, and what the first block has put there.
		block := append([]byte{0x82, 0x87}, literal(0x04, fmt.Sprintf("/%d/%d", lie, round))...)
		if round == 0 {
			block = append(block, literal(0x40, "x-first", "1")...)
		} else {
			block = append(block, 0xbe)
		}
		e.send(uint32(2*round+1), block)
		if !e.receive() {
			panic("it ends early")
		}
	}
	check(conn.Close())
}

func main() {
	dir, port := os.Args[1], os.Args[2]
	pair, err := tls.LoadX509KeyPair(dir+"/cert.pem", dir+"/key.pem")
	check(err)
	listener, err := tls.Listen("tcp", "127.0.0.1:"+port, &tls.Config{Certificates: []tls.Certificate{pair}})
	check(err)
	goOn := make(chan struct{})
	var ready, done sync.WaitGroup
	for lie := range lies {
		ready.Add(1)
		done.Add(1)
		go func(lie int) {
			conn, err := listener.Accept()
			check(err)
			serve(conn.(*tls.Conn), lie)
		}(lie)
		// It returns once the other end has accepted it.
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
		check(err)
		go client(conn, lie, goOn, &ready, &done)
	}
	ready.Wait()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	close(goOn)
	done.Wait()
	for lie := range lies {
		for round := rounds; round < 2*rounds; round++ {
			fmt.Printf("/%d/%d 200 0\n", lie, round)
		}
	}
}
