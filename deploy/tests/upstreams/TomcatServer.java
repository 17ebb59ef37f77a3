import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;

/** Answers every request with what Tomcat thinks was asked for. */
public class TomcatServer {
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

    static void add(Context context, String kind, String... patterns) {
        Tomcat.addServlet(context, kind, new Report(kind));
        for (String pattern : patterns) {
            context.addServletMappingDecoded(pattern, kind);
        }
    }

    public static void main(String[] args) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(args[1]);
        tomcat.setHostname("127.0.0.1");
        tomcat.setPort(Integer.parseInt(args[0]));
        // What administrators switch on when clients complain.
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("relaxedPathChars", "<>[\\]^`{|}\"");
        tomcat.getConnector().setEncodedSolidusHandling("decode");
        Context context = tomcat.addContext("", args[1]);
        add(context, "public", "/fhir/metadata", "/fhir/.well-known/smart-configuration");
        add(context, "protected", "/fhir/*");
        add(context, "elsewhere", "/");
        tomcat.start();
        tomcat.getServer().await();
    }
}
