import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.test.config.TestR4Config;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.HardcodedServerAddressStrategy;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/** HAPI FHIR's JPA server on a database in memory, without anything that limits a search. */
public class HapiServer {
    public static void main(String[] args) throws Exception {
        AnnotationConfigApplicationContext context = new AnnotationConfigApplicationContext(TestR4Config.class);
        FhirContext fhir = context.getBean(FhirContext.class);
        JpaStorageSettings settings = context.getBean(JpaStorageSettings.class);
        settings.setReuseCachedSearchResultsForMillis(null);
        RestfulServer servlet = new RestfulServer(fhir);
        servlet.registerProviders(((ResourceProviderFactory) context.getBean("myResourceProvidersR4")).createProviders());
        servlet.registerProvider(context.getBean("mySystemProviderR4"));
        servlet.setDefaultResponseEncoding(EncodingEnum.JSON);
        servlet.setServerAddressStrategy(new HardcodedServerAddressStrategy("http://127.0.0.1:" + args[0] + "/fhir"));
        servlet.setPagingProvider(context.getBean(DatabaseBackedPagingProvider.class));
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(args[0]));
        server.addConnector(connector);
        ServletContextHandler handler = new ServletContextHandler();
        handler.setContextPath("/");
        handler.addServlet(new ServletHolder(servlet), "/fhir/*");
        server.setHandler(handler);
        server.start();
        System.out.println("serving");
        server.join();
    }
}
