import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.PreferReturnEnum;
import ca.uhn.fhir.rest.api.SearchStyleEnum;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import ca.uhn.fhir.rest.client.interceptor.BearerTokenAuthInterceptor;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.CapabilityStatement;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;

/** Does what HAPI's own client can, and prints what came of each step: HapiClient BASE TOKEN. */
public class HapiClient {
  private static final FhirContext CONTEXT = FhirContext.forR4();

  public static void main(String[] args) throws Exception {
    CONTEXT.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.ONCE);
    for (EncodingEnum encoding : List.of(EncodingEnum.JSON, EncodingEnum.XML)) {
      IGenericClient client = CONTEXT.newRestfulGenericClient(args[0]);
      client.registerInterceptor(new BearerTokenAuthInterceptor(args[1]));
      client.setEncoding(encoding);
      for (Map.Entry<String, Callable<Object>> step : steps(client).entrySet()) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("step", step.getKey() + " in " + encoding);
        try {
          Object value = step.getValue().call();
          line.put("value", value instanceof IBaseResource ? CONTEXT.newJsonParser().encodeResourceToString((IBaseResource) value) : value);
        } catch (BaseServerResponseException e) {
          line.put("error", e.getMessage());
          line.put("status", e.getStatusCode());
        }
        System.out.println(new ObjectMapper().writeValueAsString(line));
      }
    }
  }

  private static Map<String, Callable<Object>> steps(IGenericClient client) {
    Map<String, Callable<Object>> steps = new LinkedHashMap<>();
    Patient patient = new Patient();
    patient.addName().setFamily("Jönsson");
    Patient p4 = new Patient();
    p4.setId("Patient/p4");
    p4.setActive(true);
    steps.put("capabilities", () -> client.capabilities().ofType(CapabilityStatement.class).execute().getFhirVersion().toCode());
    steps.put("read", () -> client.read().resource(Patient.class).withId("p1").execute());
    steps.put("read if changed", () -> client.read().resource(Patient.class).withId("p1").ifVersionMatches("1").returnNull().execute());
    steps.put("read a version", () -> client.read().resource(Patient.class).withIdAndVersion("p1", "1").execute());
    steps.put("missing", () -> client.read().resource(Patient.class).withId("nobody").execute());
    steps.put("search", () -> client.search().forResource(Patient.class).where(Patient.FAMILY.matches().value("Botje")).returnBundle(Bundle.class).execute());
    steps.put("search by POST", () -> client.search().forResource(Patient.class).where(Patient.FAMILY.matches().value("Botje")).usingStyle(SearchStyleEnum.POST).returnBundle(Bundle.class).execute());
    steps.put("search with _search", () -> client.search().forResource(Patient.class).where(Patient.FAMILY.matches().value("Botje")).usingStyle(SearchStyleEnum.GET_WITH_SEARCH).returnBundle(Bundle.class).execute());
    steps.put("pages", () -> pages(client));
    steps.put("history", () -> client.history().onInstance(new IdType("Patient/p1")).returnBundle(Bundle.class).execute());
    steps.put("create", () -> client.create().resource(patient).execute().getId().getValue());
    steps.put("create, tell me all", () -> client.create().resource(patient).prefer(PreferReturnEnum.REPRESENTATION).execute().getResource());
    steps.put("create unless there is one", () -> client.create().resource(patient).conditional().where(Patient.FAMILY.matches().value("Nobody")).execute().getId().getValue());
    steps.put("update", () -> client.update().resource(p4).execute().getId().getValue());
    steps.put("delete", () -> client.delete().resourceById("Patient", "p7").execute().getId() == null);
    steps.put("transaction", () -> client.transaction().withBundle(new Bundle().setType(Bundle.BundleType.TRANSACTION)).execute());
    steps.put("operation by GET", () -> client.operation().onInstance("Patient/p1").named("$whoami").withNoParameters(Parameters.class).useHttpGet().execute());
    steps.put("operation by POST", () -> client.operation().onServer().named("$reflect").withParameters(new Parameters().addParameter("a", "b")).execute());
    return steps;
  }

  private static List<String> pages(IGenericClient client) {
    List<String> ids = new ArrayList<>();
    Bundle page = client.search().forResource(Patient.class).returnBundle(Bundle.class).execute();
    while (true) {
      page.getEntry().forEach(entry -> ids.add(entry.getResource().getIdElement().getIdPart()));
      if (page.getLink(Bundle.LINK_NEXT) == null) {
        return ids;
      }
      page = client.loadPage().next(page).execute();
    }
  }
}
