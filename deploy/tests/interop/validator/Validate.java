import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import java.nio.file.Files;
import java.nio.file.Path;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/**
 * Validates the files that are its arguments against FHIR R4: prints "valid FILE", or "error FILE LOCATION: MESSAGE" for
 * each error. Profiles that R4 doesn't have aren't looked at.
 */
public class Validate {
  public static void main(String[] files) throws Exception {
    FhirContext r4 = FhirContext.forR4();
    FhirInstanceValidator instances = new FhirInstanceValidator(new ValidationSupportChain(new DefaultProfileValidationSupport(r4),
        new CommonCodeSystemsTerminologyService(r4), new InMemoryTerminologyServerValidationSupport(r4)));
    instances.setErrorForUnknownProfiles(false);
    FhirValidator validator = r4.newValidator().registerValidatorModule(instances);
    for (String file : files) {
      boolean valid = true;
      for (var message : validator.validateWithResult(Files.readString(Path.of(file))).getMessages()) {
        if (message.getSeverity().compareTo(ResultSeverityEnum.ERROR) >= 0) {
          valid = false;
          System.out.println("error " + file + " " + message.getLocationString() + ": " + message.getMessage());
        }
      }
      if (valid) {
        System.out.println("valid " + file);
      }
    }
  }
}
