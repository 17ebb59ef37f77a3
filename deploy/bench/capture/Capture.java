import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import org.hl7.fhir.r4.model.Patient;

/** Reads and creates a Patient with HAPI's client, and with that of the JDK. */
class Capture {
    public static void main(String[] args) throws Exception {
        String base = "http://127.0.0.1:" + args[0] + "/fhir";
        FhirContext context = FhirContext.forR4();
        context.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.NEVER);
        var client = context.newRestfulGenericClient(base);
        client.registerInterceptor(new BearerTokenAuthInterceptor("TOKEN"));
        client.read().resource(Patient.class).withId("1").execute();
        client.create().resource(new Patient()).execute();

        HttpClient jdk = HttpClient.newHttpClient();
        var request = HttpRequest.newBuilder(URI.create(base + "/Patient/1"))
                .header("Accept", "application/fhir+json").header("Authorization", "Bearer TOKEN");
        jdk.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }
}
