// The JDK's own server and client: `java Server.java server PORT`, or `client PORT TAG`.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.Executors;

class Server {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("client")) {
            ask(args[1], args[2]);
            return;
        }
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1])), 0);
        server.createContext("/", Server::handle);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }

    static void handle(HttpExchange exchange) throws IOException {
        var path = exchange.getRequestURI().getPath();
        boolean small = path.startsWith("/s/");
        if (!small && !path.startsWith("/l/")) {
            var body = ("plain " + path + "\n").getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
            return;
        }
        exchange.sendResponseHeaders(200, 0);
        try (OutputStream body = exchange.getResponseBody()) {
            for (int n = 0; n < (small ? 20 : 10); n++) {
                body.write(small ? "ab".getBytes() : "x".repeat(12_000).getBytes());
                body.flush();
            }
        }
    }

    static void ask(String port, String tag) throws Exception {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        for (var kind : "psl".split("")) {
            for (int n = 1; n <= 30; n++) {
                var uri = URI.create("http://127.0.0.1:" + port + "/" + kind + "/" + tag + "/" + n);
                var answer = client.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
                if (answer.statusCode() != 200 || answer.body().isEmpty()) {
                    throw new IllegalStateException(kind + " " + n + ": " + answer.statusCode());
                }
            }
        }
    }
}
