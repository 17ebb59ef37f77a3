import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.annotation.Create;
import ca.uhn.fhir.rest.annotation.IdParam;
import ca.uhn.fhir.rest.annotation.Operation;
import ca.uhn.fhir.rest.annotation.OptionalParam;
import ca.uhn.fhir.rest.annotation.Read;
import ca.uhn.fhir.rest.annotation.ResourceParam;
import ca.uhn.fhir.rest.annotation.Search;
import ca.uhn.fhir.rest.annotation.Transaction;
import ca.uhn.fhir.rest.annotation.TransactionParam;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.MethodOutcome;
import ca.uhn.fhir.rest.param.ReferenceParam;
import ca.uhn.fhir.rest.param.StringParam;
import ca.uhn.fhir.rest.param.TokenParam;
import ca.uhn.fhir.rest.server.ApacheProxyAddressStrategy;
import ca.uhn.fhir.rest.server.FifoMemoryPagingProvider;
import ca.uhn.fhir.rest.server.IResourceProvider;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.exceptions.ResourceNotFoundException;
import ca.uhn.fhir.rest.server.provider.HashMapResourceProvider;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListMap;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.hl7.fhir.r4.model.Binary;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.IdType;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.Parameters;
import org.hl7.fhir.r4.model.Patient;
import org.hl7.fhir.r4.model.Reference;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.servlet.ServletRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/**
 * HAPI's RestfulServer with three types in memory, as a program: FhirServer jetty|tomcat PORT. The base is /fhir. GET
 * /reset makes it what it was at the start; GET /fhir/$headers answers with the request's headers.
 *
 * <p>The property "addresses" chooses how it writes its own URLs: "proxy" believes X-Forwarded-*, the default what the
 * servlet container tells. The property "interceptors" names classes to register, comma separated.
 */
public class FhirServer {
  public static void main(String[] args) throws Exception {
    if (args[0].equals("jetty")) {
      jetty(Integer.parseInt(args[1]));
    } else {
      System.setProperty("server.port", args[1]);
      System.setProperty("server.address", "127.0.0.1");
      System.setProperty("spring.main.banner-mode", "off");
      SpringApplication.run(Tomcat.class);
    }
  }

  private static void jetty(int port) throws Exception {
    Server server = new Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    connector.setPort(port);
    server.addConnector(connector);
    ServletContextHandler handler = new ServletContextHandler();
    World world = new World();
    handler.addServlet(new ServletHolder(world.fhir), "/fhir/*");
    handler.addServlet(new ServletHolder(world.reset), "/reset");
    server.setHandler(handler);
    server.start();
    server.join();
  }

  /** The same servlets in the Tomcat that Spring Boot brings, whose settings are Spring Boot's. */
  @Configuration
  @EnableAutoConfiguration
  public static class Tomcat {
    private final World world = new World();

    @Bean
    public ServletRegistrationBean<RestfulServer> fhir() {
      return new ServletRegistrationBean<>(world.fhir, "/fhir/*");
    }

    @Bean
    public ServletRegistrationBean<HttpServlet> reset() {
      return new ServletRegistrationBean<>(world.reset, "/reset");
    }
  }

  /** The FHIR server and what it stores. */
  static class World {
    final RestfulServer fhir = new RestfulServer(FhirContext.forR4());
    private final Patients patients = new Patients(fhir.getFhirContext());
    private final Observations observations = new Observations();
    private final HashMapResourceProvider<Binary> binaries =
        new HashMapResourceProvider<>(fhir.getFhirContext(), Binary.class);

    World() {
      fhir.setDefaultResponseEncoding(EncodingEnum.JSON);
      fhir.setPagingProvider(new FifoMemoryPagingProvider(50).setDefaultPageSize(3).setMaximumPageSize(3));
      fhir.registerProviders(patients, observations, binaries, new Whole());
      if ("proxy".equals(System.getProperty("addresses"))) {
        fhir.setServerAddressStrategy(ApacheProxyAddressStrategy.forHttp());
      }
      for (String name : System.getProperty("interceptors", "").split(",")) {
        if (!name.isEmpty()) {
          try {
            fhir.registerInterceptor(Class.forName(name).getDeclaredConstructor().newInstance());
          } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(e);
          }
        }
      }
      fill();
    }

    private void fill() {
      patients.clear();
      observations.stored.clear();
      binaries.clear();
      for (int i = 1; i <= 7; i++) {
        Patient patient = new Patient();
        patient.setId("p" + i);
        patient.addName().setFamily("Botje").addGiven("Berta " + i);
        patients.store(patient);
        Observation observation = new Observation();
        observation.setStatus(Observation.ObservationStatus.FINAL);
        observation.setSubject(new Reference("Patient/p" + i));
        observations.create(observation);
      }
    }

    final HttpServlet reset = new HttpServlet() {
      @Override
      protected void doGet(HttpServletRequest request, HttpServletResponse response) {
        fill();
      }
    };
  }

  /** Patients, searched by family name as well. */
  public static class Patients extends HashMapResourceProvider<Patient> {
    Patients(FhirContext context) {
      super(context, Patient.class);
    }

    @Search
    public synchronized List<Patient> byFamily(
        @OptionalParam(name = "family") StringParam family, @OptionalParam(name = "_id") TokenParam id) {
      return getStoredResources().stream()
          .filter(p -> family == null || p.getName().stream().anyMatch(n -> family.getValue().equalsIgnoreCase(n.getFamily())))
          .filter(p -> id == null || p.getIdElement().getIdPart().equals(new IdType(id.getValue()).getIdPart()))
          .toList();
    }

    @Operation(name = "$whoami", idempotent = true)
    public Parameters whoami(@IdParam IdType id, HttpServletRequest request) {
      return new Parameters().addParameter("id", id.getIdPart()).addParameter("own", "" + request.getHeader("X-Own"));
    }
  }

  /** Observations, searched by patient. HAPI's class for this finds all of them by a method without parameters, to
   * which no interceptor can add one. */
  public static class Observations implements IResourceProvider {
    private final Map<String, Observation> stored = new ConcurrentSkipListMap<>();

    @Override
    public Class<Observation> getResourceType() {
      return Observation.class;
    }

    @Read
    public Observation read(@IdParam IdType id) {
      Observation observation = stored.get(id.getIdPart());
      if (observation == null) {
        throw new ResourceNotFoundException(id);
      }
      return observation;
    }

    @Create
    public MethodOutcome create(@ResourceParam Observation observation) {
      observation.setId(new IdType("Observation", "o" + (stored.size() + 1), "1"));
      stored.put(observation.getIdElement().getIdPart(), observation);
      return new MethodOutcome(observation.getIdElement(), true).setResource(observation);
    }

    @Search
    public List<Observation> search(
        @OptionalParam(name = "patient") ReferenceParam patient, @OptionalParam(name = "subject") ReferenceParam subject) {
      return stored.values().stream().filter(o -> of(o, patient) && of(o, subject)).toList();
    }

    private static boolean of(Observation observation, ReferenceParam patient) {
      return patient == null || observation.getSubject().getReferenceElement().getIdPart().equals(patient.getIdPart());
    }
  }

  /** What concerns no single type. */
  public static class Whole {
    @Operation(name = "$headers", idempotent = true)
    public Parameters headersOf(HttpServletRequest request) {
      return headers(request);
    }

    @Operation(name = "$reflect")
    public Parameters reflect(@ResourceParam Parameters parameters) {
      return parameters;
    }

    @Transaction
    public Bundle transaction(@TransactionParam Bundle bundle) {
      Bundle response = new Bundle();
      response.setType(Bundle.BundleType.TRANSACTIONRESPONSE);
      bundle.getEntry().forEach(entry -> response.addEntry().getResponse().setStatus("200 OK").setLocation(entry.getRequest().getUrl()));
      return response;
    }
  }

  private static Parameters headers(HttpServletRequest request) {
    Parameters parameters = new Parameters();
    for (String name : new TreeSet<>(Collections.list(request.getHeaderNames()))) {
      if (name.toLowerCase().startsWith("x-") || name.equalsIgnoreCase("host")) {
        Collections.list(request.getHeaders(name)).forEach(value -> parameters.addParameter(name.toLowerCase(), value));
      }
    }
    return parameters;
  }
}
