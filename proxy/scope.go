package proxy

import (
	"net/url"
	"strings"

	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/introspection"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/fhir"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/policy"
	"github.com/fhir-introspection-sidecar/fhir-introspection-sidecar/proxy/smart"
)

// checkInteraction returns why the token's scopes don't permit the request, or "",
// and the scopes that would.
func checkInteraction(q *request, path string, r *introspection.Response) (reason policy.Reason, scopes string) {
	n, ok := needs(q.method, path, q.target.query, q.conditional)
	if ok && n.allowedBy(r) {
		return "", ""
	}
	if what, _ := fhir.ParseInteraction(q.method, path); what == fhir.Operation && !ok {
		return operation, "" // no scope permits one that isn't listed
	}
	return interaction, n.scopes(r)
}

// need is what the scopes of a token must permit for one request.
type need struct {
	permission smart.Permission
	// types are the resource types on which it must be permitted, each of them:
	// R4 names, smart.EveryType or smart.SomeType. Comma separated, because it
	// is one nearly always and a slice would be an allocation.
	types string
	// patient is the id of the Patient that the path names, if it does.
	patient string
}

// anything is what a request needs that can't be told apart further.
var anything = need{permission: smart.All, types: smart.EveryType}

// needs tells what an interaction needs (SMART App Launch 2.2, "Scopes for
// requesting FHIR resources"). ok is false for what no scope can permit: FHIR
// doesn't know the request, or it is an operation that isn't listed.
//
// A condition needs search as well, since its outcome tells whether something
// matches.
func needs(method, path, query string, conditionalCreate bool) (n need, ok bool) {
	what, resourceType := fhir.ParseInteraction(method, path)
	n = need{types: resourceType, patient: patientOf(path)}
	if resourceType == "" {
		n.types = smart.EveryType
	}
	switch what {
	case fhir.Read, fhir.Vread, fhir.HistoryInstance:
		n.permission = smart.Read
	case fhir.Create:
		n.permission = smart.Create
		if conditionalCreate {
			n.permission |= smart.Search
		}
	case fhir.Update, fhir.Patch:
		n.permission = smart.Update | search(conditional(path))
	case fhir.Delete:
		n.permission = smart.Delete | search(conditional(path))
	case fhir.SearchType, fhir.HistoryType, fhir.HistorySystem:
		n.permission = smart.Search
	case fhir.SearchSystem:
		n.permission = smart.Search
		if method != "POST" { // the body of a POST could name more types
			n.types = systemTypes(query)
		}
	case fhir.Capabilities:
		return need{}, true
	case fhir.Transaction:
		// Each entry is a request of its own. Bodies are not read here, so a
		// bundle needs what any entry could need.
		return anything, true
	case fhir.Operation:
		return operationNeed(path, n)
	default:
		return anything, false
	}
	return n, true
}

func search(conditional bool) smart.Permission {
	if conditional {
		return smart.Search
	}
	return 0
}

// conditional holds for an update, patch or delete that names no id.
func conditional(path string) bool {
	return !strings.Contains(strings.TrimSuffix(path, "/"), "/")
}

// patientOf returns the id in Patient/[id] and below it.
func patientOf(path string) string {
	rest, ok := strings.CutPrefix(path, "Patient/")
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(rest, "/")
	if strings.HasPrefix(id, "$") || strings.HasPrefix(id, "%24") || strings.HasPrefix(id, "_") {
		return "" // an operation, _history or _search
	}
	return id
}

// systemTypes returns the types that a search at the base is limited to by
// _type. A page of an earlier search (HAPI FHIR's _getpages) names no types.
// Whatever a server might read in another way limits nothing.
func systemTypes(query string) string {
	types := ""
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || strings.Contains(pair, ";") {
			return smart.EveryType
		}
		switch name {
		case "_getpages":
			return smart.SomeType
		case "_type":
			value, err := url.QueryUnescape(value)
			if err != nil || !areTypes(value) {
				return smart.EveryType
			}
			types += "," + value
		}
	}
	if types == "" {
		return smart.EveryType
	}
	return types[1:]
}

func areTypes(list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if what, resourceType := fhir.ParseInteraction("GET", name); what != fhir.SearchType || resourceType != name {
			return false
		}
	}
	return true
}

// operations lists what the operations of FHIR R4 and its bulk data and SMART
// guides need. One that isn't listed is refused, because its effect is unknown.
// Those that answer with resources of any type need every type.
var operations = map[string]need{
	"apply":         {permission: smart.Read},
	"document":      {permission: smart.Read},
	"everything":    {permission: smart.Read | smart.Search, types: smart.EveryType},
	"expand":        {permission: smart.Read},
	"export":        {permission: smart.Read | smart.Search, types: smart.EveryType},
	"graphql":       {permission: smart.Read | smart.Search, types: smart.EveryType},
	"lastn":         {permission: smart.Search},
	"lookup":        {permission: smart.Read},
	"match":         {permission: smart.Search},
	"meta":          {permission: smart.Read},
	"meta-add":      {permission: smart.Update},
	"meta-delete":   {permission: smart.Update},
	"stats":         {permission: smart.Search},
	"subsumes":      {permission: smart.Read},
	"translate":     {permission: smart.Read},
	"validate":      {permission: smart.Read},
	"validate-code": {permission: smart.Read},
}

func operationNeed(path string, n need) (need, bool) {
	path = strings.TrimSuffix(path, "/")
	name := strings.TrimPrefix(path[strings.LastIndexByte(path, '/')+1:], "$")
	operation, ok := operations[strings.TrimPrefix(name, "%24")]
	if !ok {
		return anything, false
	}
	n.permission = operation.permission
	if operation.types != "" {
		n.types = operation.types
	}
	return n, true
}

// allowedBy reports whether the token's scopes permit what is needed. Scopes in
// the patient context count only for a request that doesn't name another patient
// than the launch context does.
func (n *need) allowedBy(r *introspection.Response) bool {
	patient := r.Text(introspection.Patient)
	withPatient := patient != "" && (n.patient == "" || n.patient == patient)
	for resourceType := range strings.SplitSeq(n.types, ",") {
		if n.permission&^smart.Granted(r.Text(introspection.Scope), resourceType, withPatient) != 0 {
			return false
		}
	}
	return true
}

// scopes writes what is needed as scopes, in the context in which the token
// already has some, for the challenge (RFC 6750 §3).
func (n *need) scopes(r *introspection.Response) string {
	context := string(smart.ContextOf(r.Text(introspection.Scope)))
	var b strings.Builder
	for resourceType := range strings.SplitSeq(n.types, ",") {
		if resourceType == smart.SomeType {
			resourceType = smart.EveryType
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(context + "/" + resourceType + "." + n.permission.String())
	}
	return b.String()
}
