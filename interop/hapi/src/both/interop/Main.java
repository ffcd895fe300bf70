package interop;

import ca.uhn.fhir.rest.server.RestfulServer;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;

/** HAPI FHIR JPA over H2 in memory, at http://127.0.0.1:PORT/fhir. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        Path folder = Files.createDirectories(Path.of(arguments[1]));
        AnnotationConfigApplicationContext spring = new AnnotationConfigApplicationContext(Server.class);

        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(folder.toString());
        tomcat.setHostname("127.0.0.1");
        tomcat.setPort(port);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", new File(folder.toString()).getAbsolutePath());
        Tomcat.addServlet(context, "fhir", spring.getBean(RestfulServer.class)).setLoadOnStartup(1);
        context.addServletMappingDecoded("/fhir/*", "fhir");
        tomcat.start();
        tomcat.getServer().await();
    }
}
