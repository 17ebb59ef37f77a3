import java.io.IOException;
import javax.servlet.http.HttpServlet;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/** Answers every request with what Jetty thinks was asked for. */
public class JettyServer {
    static class Report extends HttpServlet {
        private final String kind;

        Report(String kind) {
            this.kind = kind;
        }

        @Override
        protected void service(HttpServletRequest q, HttpServletResponse a) throws IOException {
            String info = q.getPathInfo() == null ? "" : q.getPathInfo();
            a.setHeader("X-Kind", kind);
            a.getOutputStream().write((kind + " " + q.getServletPath() + info).getBytes("UTF-8"));
        }
    }

    public static void main(String[] args) throws Exception {
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(args[0]));
        server.addConnector(connector);
        ServletContextHandler context = new ServletContextHandler();
        context.setContextPath("/");
        context.addServlet(new ServletHolder(new Report("public")), "/fhir/metadata");
        context.addServlet(new ServletHolder(new Report("public")), "/fhir/.well-known/smart-configuration");
        context.addServlet(new ServletHolder(new Report("protected")), "/fhir/*");
        context.addServlet(new ServletHolder(new Report("elsewhere")), "/");
        server.setHandler(context);
        server.start();
        server.join();
    }
}
