// A seeded mix of operations against a Kafka broker, one at a time; what each did is a line of output.
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.*;

public class Client {
    static Properties properties(String port, String client) {
        Properties all = new Properties();
        all.put("bootstrap.servers", "127.0.0.1:" + port);
        all.put("client.id", client);
        return all;
    }

    static KafkaProducer<byte[], byte[]> producer(String port, String client, String acks) {
        Properties all = properties(port, client);
        all.put("acks", acks);
        all.put("enable.idempotence", "false");
        all.put("linger.ms", "0");
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void create(Admin admin, String topic) throws Exception {
        int code = 0;
        try {
            admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) throw error;
            code = 36;
        }
        System.out.println("create " + topic + " " + code);
    }

    public static void main(String[] args) throws Exception {
        int operations = Integer.parseInt(args[1]);
        Random random = new Random(13);
        try (Admin admin = Admin.create(properties(args[0], "admin"));
                var acked = producer(args[0], "acked", "all");
                var oneway = producer(args[0], "oneway", "0")) {
            for (int n = 0; n < 4; n++) create(admin, "topic-" + n);
            for (int n = 0; n < operations; n++) {
                String topic = "topic-" + random.nextInt(4);
                int partition = random.nextInt(2);
                byte[] value = new byte[random.nextInt(40) == 0 ? 200_000 : random.nextInt(900)];
                var message = new ProducerRecord<byte[], byte[]>(topic, partition, null, value);
                switch (random.nextInt(10)) {
                    case 0 -> create(admin, random.nextBoolean() ? topic : "other-" + n);
                    case 1 -> {
                        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                        admin.describeConfigs(List.of(resource)).all().get();
                        System.out.println("describe " + topic);
                    }
                    case 2 -> {
                        oneway.send(message).get();
                        System.out.println("oneway " + topic + " " + partition);
                    }
                    default -> {
                        long offset = acked.send(message).get().offset();
                        System.out.println("acked " + topic + " " + partition + " " + offset);
                    }
                }
            }
        }
        Properties group = properties(args[0], "consumer");
        group.put("group.id", "readers");
        group.put("auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(group, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of("topic-0"));
            int count = 0;
            while (count < 20) count += consumer.poll(Duration.ofSeconds(1)).count();
            consumer.commitSync();
        }
        System.out.println("done");
    }
}
