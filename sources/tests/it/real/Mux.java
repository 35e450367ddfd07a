// Finagle's ThriftMux: `serve PORT`, or `ask PORT SEED COUNT`, which prints, for each call, its name, when it began and
// ended for the client, and what became of it.

import com.twitter.finagle.Failure;
import com.twitter.finagle.Mux$param$MaxFrameSize;
import com.twitter.finagle.Service;
import com.twitter.finagle.ThriftMux;
import com.twitter.finagle.liveness.FailureDetector;
import com.twitter.finagle.service.RetryBudgets;
import com.twitter.finagle.thrift.ThriftClientRequest;
import com.twitter.util.Await;
import com.twitter.util.Duration;
import com.twitter.util.Future;
import com.twitter.util.FutureEventListener;
import com.twitter.util.JavaTimer;
import com.twitter.util.StorageUnit;
import java.net.InetSocketAddress;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Semaphore;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TField;
import org.apache.thrift.protocol.TMessage;
import org.apache.thrift.protocol.TMessageType;
import org.apache.thrift.protocol.TStruct;
import org.apache.thrift.protocol.TType;
import org.apache.thrift.transport.TMemoryBuffer;
import org.apache.thrift.transport.TMemoryInputTransport;

public class Mux {
    static final String[] KINDS = {"echo", "echo", "slow", "slow", "fail", "refuse", "large", "forget"};
    static final int UNDER_WAY = 24;
    static final JavaTimer TIMER = new JavaTimer(true);

    static Duration ms(long count) {
        return Duration.fromMilliseconds(count);
    }

    static byte[] message(String kind, byte type, int number, String name, int bytes) throws Exception {
        TMemoryBuffer buffer = new TMemoryBuffer(bytes + 128);
        TBinaryProtocol protocol = new TBinaryProtocol(buffer);
        protocol.writeMessageBegin(new TMessage(kind, type, number));
        protocol.writeStructBegin(new TStruct("s"));
        protocol.writeFieldBegin(new TField("name", TType.STRING, (short) (type == TMessageType.CALL ? 1 : 0)));
        protocol.writeString(name + " ".repeat(bytes));
        protocol.writeFieldEnd();
        protocol.writeFieldStop();
        protocol.writeMessageEnd();
        return Arrays.copyOf(buffer.getArray(), buffer.length());
    }

    static Future<byte[]> serve(byte[] asked) {
        try {
            TBinaryProtocol protocol = new TBinaryProtocol(new TMemoryInputTransport(asked));
            TMessage message = protocol.readMessageBegin();
            protocol.readStructBegin();
            protocol.readFieldBegin();
            String name = protocol.readString().strip();
            boolean isLarge = message.name.equals("large");
            byte[] answer = message(message.name, TMessageType.REPLY, message.seqid, name, isLarge ? 150_000 : 0);
            switch (message.name) {
                case "fail":
                    return Future.exception(new IllegalStateException("failed " + name));
                case "refuse":
                    return Future.exception(Failure.rejected(name));
                case "slow":
                    return Future.value(answer).delayed(ms(1 + message.seqid % 9), TIMER);
                case "forget":
                    return Future.value(answer).delayed(ms(150), TIMER);
                default:
                    return Future.value(answer);
            }
        } catch (Exception error) {
            return Future.exception(error);
        }
    }

    static void serveAll(int port) throws Exception {
        var service = new Service<byte[], byte[]>() {
            @Override
            public Future<byte[]> apply(byte[] asked) {
                return serve(asked);
            }
        };
        var server = ThriftMux.server()
            .configured(new Mux$param$MaxFrameSize(StorageUnit.fromKilobytes(32)).mk())
            .serve(new InetSocketAddress("127.0.0.1", port), service);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                Await.ready(server.close(ms(2_000)));
            } catch (Exception error) {
                System.err.println(error);
            }
        }));
        Await.ready(server);
    }

    static long now() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }

    static void ask(int port, int seed, int count) throws Exception {
        var detector = new FailureDetector.ThresholdConfig(ms(50), ms(10_000));
        var service = ThriftMux.client()
            .configured(new FailureDetector.Param(detector).mk())
            .configured(new Mux$param$MaxFrameSize(StorageUnit.fromKilobytes(32)).mk())
            .withRetryBudget(RetryBudgets.EMPTY)
            .withSessionQualifier().noFailureAccrual()
            .newService("127.0.0.1:" + port, "t");
        Random random = new Random(seed);
        Semaphore room = new Semaphore(UNDER_WAY);
        List<String> log = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            boolean isAlone = number >= count * 3 / 4;
            int share = isAlone ? UNDER_WAY : 1;
            room.acquire(share);
            String kind = KINDS[random.nextInt(KINDS.length)], name = "call-" + seed + "-" + number + ";";
            byte[] asked = message(kind, TMessageType.CALL, number, name, kind.equals("large") ? 100_000 : random.nextInt(300));
            long begin = now();
            Future<byte[]> answer = service.apply(new ThriftClientRequest(asked, false));
            answer.addEventListener(new FutureEventListener<byte[]>() {
                void ended(String what) {
                    String line = String.join("\t", kind, name, Long.toString(begin), Long.toString(now()), what, isAlone ? "alone" : "beside others");
                    synchronized (log) {
                        log.add(line);
                    }
                    room.release(share);
                }

                @Override
                public void onSuccess(byte[] answer) {
                    ended("answered");
                }

                @Override
                public void onFailure(Throwable why) {
                    ended("failed");
                }
            });
            if (kind.equals("forget")) {
                Future.sleep(ms(random.nextInt(20)), TIMER).onSuccess(none -> {
                    answer.raise(new InterruptedException("not wanted any more"));
                    return null;
                });
            }
            if (random.nextInt(40) == 0) {
                Thread.sleep(30);
            }
        }
        room.acquire(UNDER_WAY);
        log.forEach(System.out::println);
        Await.ready(service.close());
    }

    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[1]);
        if (args[0].equals("serve")) {
            serveAll(port);
        } else {
            ask(port, Integer.parseInt(args[2]), Integer.parseInt(args[3]));
        }
        System.exit(0);
    }
}
