// Prints the status of each URL with Java's own HttpClient. The client prefers HTTP/2, and offers h2c with each request
// to http://.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class Plain {
    public static void main(String[] urls) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (String url : urls) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
            System.out.println(client.send(request, BodyHandlers.ofString()).statusCode());
        }
        System.exit(0);
    }
}
