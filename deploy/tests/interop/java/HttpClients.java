import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Sends the requests on standard input by the JDK's client, and prints what came: HttpClients HTTP_1_1|HTTP_2. */
public class HttpClients {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] args) throws Exception {
    JsonNode work = JSON.readTree(System.in);
    HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.valueOf(args[0])).build();
    for (JsonNode kind : work.get("kinds")) {
      Map<String, Object> outcome = new LinkedHashMap<>();
      outcome.put("name", kind.get("name").asText());
      try {
        send(client, work, kind, outcome);
      } catch (Exception e) {
        outcome.put("error", e.toString());
      }
      System.out.println(JSON.writeValueAsString(outcome));
    }
  }

  private static void send(HttpClient client, JsonNode work, JsonNode kind, Map<String, Object> outcome) throws Exception {
    HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(work.get("base").asText() + kind.get("path").asText()));
    request.timeout(Duration.ofSeconds(20)).setHeader("Authorization", "Bearer " + work.get("token").asText());
    kind.get("header").fields().forEachRemaining(h -> request.setHeader(h.getKey(), h.getValue().asText()));
    String body = kind.get("body").asText();
    request.method(
        kind.get("method").asText(), body.isEmpty() ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(body.getBytes(StandardCharsets.UTF_8)));
    HttpResponse<byte[]> response = client.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
    List<List<String>> header = new ArrayList<>();
    response.headers().map().forEach((name, values) -> values.forEach(value -> header.add(List.of(name, value))));
    outcome.put("status", response.statusCode());
    outcome.put("header", header);
    outcome.put("body", Base64.getEncoder().encodeToString(response.body()));
  }
}
