// A gRPC server and a client over TLS, in one program: `pair PLACE PORT server`, or `pair PLACE PORT client CALLS`.
// The client makes that many calls of each kind (unary, from the server, both ways), each with a number of its own in
// its metadata, and prints a line for each: `method#number=grpc-status/bytes asked status bytes answered`, where bytes
// are those of the messages with their heads. With a fifth argument it makes so many calls first, prints nothing of
// them but `ready`, and goes on when it is told to.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type message = wrapperspb.BytesValue

func of(size int) *message { return &message{Value: bytes.Repeat([]byte("m"), size)} }

func bytesOf(m *message) int { return 5 + proto.Size(m) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func deep(n int) int {
	var room [64]int
	room[n%64] = n
	if n == 0 {
		return room[0]
	}
	return deep(n-1) + room[n%64]
}

func number(ctx context.Context) int {
	all, _ := metadata.FromIncomingContext(ctx)
	n, _ := strconv.Atoi(all.Get("x-id")[0])
	return n
}

// What a unary call is answered: some are refused, without a message.
func unary(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	asked := new(message)
	if err := read(asked); err != nil {
		return nil, err
	}
	n := number(ctx)
	deep(n % 2000)
	if n%20 == 0 {
		runtime.GC()
	}
	if n%7 == 0 {
		return nil, status.Errorf(codes.NotFound, "no %d", n)
	}
	return of(n * 37 % 40000), nil
}

// Each message is answered by one of another length; the first by two.
func stream(_ any, s grpc.ServerStream) error {
	n := number(s.Context())
	for count := 0; ; count++ {
		asked := new(message)
		if err := s.RecvMsg(asked); err == io.EOF {
			if n%5 == 0 {
				return status.Error(codes.Aborted, "enough")
			}
			return nil
		} else if err != nil {
			return err
		}
		if count == 0 {
			check(s.SendMsg(of(n * 13 % 9000)))
		}
		check(s.SendMsg(of(len(asked.Value) / 2)))
	}
}

var service = grpc.ServiceDesc{
	ServiceName: "weir.Pair",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Down", Handler: stream, ServerStreams: true},
		{StreamName: "Both", Handler: stream, ServerStreams: true, ClientStreams: true},
	},
}

var lock sync.Mutex

func say(method string, n int, asked int, err error, answered int) {
	lock.Lock()
	defer lock.Unlock()
	fmt.Printf("/weir.Pair/%s#%d=%d/%d 200 %d\n", method, n, status.Code(err), asked, answered)
}

func askOnce(conn *grpc.ClientConn, n int, quiet bool) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-id", strconv.Itoa(n))
	asked, answer := of(n*91%30000), new(message)
	err := conn.Invoke(ctx, "/weir.Pair/Unary", asked, answer)
	size := 0
	if err == nil {
		size = bytesOf(answer)
	} else if status.Code(err) != codes.NotFound {
		panic(err)
	}
	if !quiet {
		say("Unary", n, bytesOf(asked), err, size)
	}
}

func talk(conn *grpc.ClientConn, method string, n int, messages int) {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-id", strconv.Itoa(n))
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: method == "Both"}
	s, err := conn.NewStream(ctx, desc, "/weir.Pair/"+method)
	check(err)
	asked, answered := 0, 0
	take := func() error {
		answer := new(message)
		err := s.RecvMsg(answer)
		if err == nil {
			answered += bytesOf(answer)
		}
		return err
	}
	for count := 0; count < messages; count++ {
		m := of((n*17 + count*501) % 12000)
		asked += bytesOf(m)
		check(s.SendMsg(m))
		// Not all in step, so that messages go both ways at once.
		if count%3 == 1 {
			check(take())
		}
	}
	check(s.CloseSend())
	for err = take(); err == nil; err = take() {
	}
	if err == io.EOF {
		err = nil
	} else if status.Code(err) != codes.Aborted {
		panic(err)
	}
	say(method, n, asked, err, answered)
}

func main() {
	place, address, role := os.Args[1], "127.0.0.1:"+os.Args[2], os.Args[3]
	if role == "server" {
		tls, err := credentials.NewServerTLSFromFile(place+"/cert.pem", place+"/key.pem")
		check(err)
		listener, err := net.Listen("tcp", address)
		check(err)
		server := grpc.NewServer(grpc.Creds(tls))
		server.RegisterService(&service, new(any))
		check(server.Serve(listener))
	}
	tls, err := credentials.NewClientTLSFromFile(place+"/cert.pem", "localhost")
	check(err)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(tls))
	check(err)
	calls, err := strconv.Atoi(os.Args[4])
	check(err)
	if len(os.Args) > 5 {
		before, err := strconv.Atoi(os.Args[5])
		check(err)
		for n := 0; n < before; n++ {
			askOnce(conn, 1000000+n, true)
		}
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	const tasks = 6
	var wait sync.WaitGroup
	for task := 0; task < tasks; task++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for n := task; n < calls; n += tasks {
				askOnce(conn, 3*n, false)
				talk(conn, "Down", 3*n+1, 1)
				talk(conn, "Both", 3*n+2, 1+n%9)
			}
		}()
	}
	wait.Wait()
}
