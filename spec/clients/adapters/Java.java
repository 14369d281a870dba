// java.net.http.HttpClient with a body of lines. As most such loops do, this one remembers the id of an event
// that it handed over, and nothing else.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

public class Java {
    private static final PrintStream OUT =
        new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    private static String last, type, id;
    private static StringBuilder data;
    private static long retry = 1000;

    private static String quote(String text) {
        var out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private static void line(String text) {
        if (text.isEmpty()) {
            if (data != null) {
                last = id != null ? id : last;
                OUT.println("{\"event\":" + quote(type == null ? "message" : type) + ",\"id\":"
                    + quote(id == null ? "" : id) + ",\"data\":" + quote(data.toString()) + "}");
            }
            type = id = null;
            data = null;
            return;
        }
        int colon = text.indexOf(':');
        String field = colon < 0 ? text : text.substring(0, colon);
        String value = colon < 0 ? "" : text.substring(colon + (text.startsWith(": ", colon) ? 2 : 1));
        switch (field) {
            case "data" -> data = data == null ? new StringBuilder(value) : data.append('\n').append(value);
            case "event" -> type = value;
            case "id" -> id = value;
            case "retry" -> retry = Long.parseLong(value);
            default -> { }
        }
    }

    public static void main(String[] args) throws InterruptedException {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        for (;;) {
            try {
                var request = HttpRequest.newBuilder(URI.create(args[1])).header("Accept", "text/event-stream");
                if (last != null) {
                    request.header("Last-Event-ID", last);
                }
                var response = client.send(request.build(), BodyHandlers.ofLines());
                if (response.statusCode() != 200) {
                    OUT.println("{\"end\":\"status " + response.statusCode() + "\"}");
                    return;
                }
                type = id = null;
                data = null;
                OUT.println("{\"open\":true}");
                response.body().forEach(Java::line);
            } catch (java.io.IOException | java.io.UncheckedIOException e) {
                OUT.println("{\"error\":" + quote(String.valueOf(e)) + "}");
            }
            Thread.sleep(retry);
        }
    }
}
