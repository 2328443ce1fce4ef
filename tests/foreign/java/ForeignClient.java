import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.json.JSONArray;

/**
 * A backend and clients in Java, with libraries as they come. Each prints lines.
 *
 * publish URL KEY JSON          java.net.http.HttpClient, which offers HTTP/2 by `Upgrade: h2c`
 * stream URL TOKEN              the lines of an event stream
 * socket URL TOKEN TRANSPORT CHANNELS   io.socket:socket.io-client: its events, and the echo of binary data
 */
public class ForeignClient {
    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "publish" -> publish(arguments[1], arguments[2], arguments[3]);
            case "stream" -> stream(arguments[1], arguments[2]);
            default -> socket(arguments[1], arguments[2], arguments[3], arguments[4]);
        }
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static void publish(String url, String key, String json) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url))
            .header("Authorization", "Bearer " + key)
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(json))
            .build();
        var response = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
        say(response.statusCode() + " " + response.version() + " " + response.body());
    }

    private static void stream(String url, String token) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(url)).header("Authorization", "Bearer " + token).build();
        HttpClient.newHttpClient().send(request, BodyHandlers.ofLines()).body().forEach(ForeignClient::say);
        say("end");
        System.exit(0);
    }

    private static void socket(String url, String token, String transport, String channels) throws Exception {
        IO.Options options = new IO.Options();
        options.transports = new String[] {transport};
        options.auth = Map.of("token", token, "channels", channels);
        options.forceNew = true;
        Socket socket = IO.socket(URI.create(url), options);
        socket.on(Socket.EVENT_CONNECT_ERROR, errors -> say("connect_error " + Arrays.toString(errors)));
        socket.on(Socket.EVENT_DISCONNECT, reasons -> say("disconnect " + Arrays.toString(reasons)));
        socket.on("tidings:ready", values -> {
            say("tidings:ready " + new JSONArray(Arrays.asList(values)));
            byte[] bytes = new byte[1000];
            for (int index = 0; index < bytes.length; index++) bytes[index] = (byte) (index * 7);
            socket.on("echoed", echoed -> {
                boolean isEqual = echoed[0] instanceof byte[] && Arrays.equals(bytes, (byte[]) echoed[0]);
                say("echoed " + (isEqual ? "equal" : Arrays.toString(echoed)));
            });
            socket.emit("echo", new Object[] {bytes}, (Ack) replies -> say("ack " + Arrays.toString(replies)));
        });
        socket.on("updated", values -> say("updated " + new JSONArray(Arrays.asList(values))));
        socket.connect();
        new CountDownLatch(1).await();
    }
}
