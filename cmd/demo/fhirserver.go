package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fhirServer is a FHIR R4 server of the smallest kind, in memory: metadata, read,
// search and create, for Patient and Task. It knows nothing of OAuth. That a
// request is about one patient only is told by the header X-Launch-Patient, which
// it believes blindly: why nobody but the sidecar may be able to set it.
type fhirServer struct {
	base          string // http://127.0.0.1:port/fhir
	introspection string
	server        *http.Server
	served        chan struct{}

	mu        sync.Mutex
	resources []resource
	sightings []sighting
}

// sighting is a request as it reached the FHIR server.
type sighting struct {
	method, uri string
	launch      []string // header lines that belong, or could be taken to belong, to the launch context
}

// resource has the elements that this server keeps of a Patient or a Task.
type resource struct {
	ResourceType string     `json:"resourceType"`
	ID           string     `json:"id,omitempty"`
	Status       string     `json:"status,omitempty"`
	Intent       string     `json:"intent,omitempty"`
	Description  string     `json:"description,omitempty"`
	For          *reference `json:"for,omitempty"`
	Name         []name     `json:"name,omitempty"`
}

type reference struct {
	Reference string `json:"reference"`
}

type name struct {
	Text string `json:"text"`
}

// patient is the id of the patient the resource is about.
func (r resource) patient() string {
	if r.ResourceType == "Patient" {
		return r.ID
	}
	if r.For != nil {
		return strings.TrimPrefix(r.For.Reference, "Patient/")
	}
	return ""
}

func newFHIRServer(introspection string) *fhirServer {
	task := func(id, description, patient string) resource {
		return resource{
			ResourceType: "Task", ID: id, Status: "ready", Intent: "order",
			Description: description, For: &reference{"Patient/" + patient},
		}
	}
	return &fhirServer{introspection: introspection, resources: []resource{
		{ResourceType: "Patient", ID: "123", Name: []name{{"Anna de Vries"}}},
		{ResourceType: "Patient", ID: "456", Name: []name{{"Bram Bakker"}}},
		{ResourceType: "Patient", ID: "999", Name: []name{{"Carla Smit"}}},
		task("55", "Fill in the sleep diary", "123"),
		task("56", "Watch the film on breathing", "123"),
		task("57", "Walk for half an hour", "456"),
		task("58", "Weigh every morning", "999"),
	}}
}

func startFHIRServer(introspection string) (*fhirServer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the FHIR server: %w", err)
	}
	f := newFHIRServer(introspection)
	f.base = "http://" + ln.Addr().String() + "/fhir"
	f.server = &http.Server{Handler: f.handler(), ReadHeaderTimeout: 10 * time.Second}
	f.served = make(chan struct{})
	go func() {
		defer close(f.served)
		_ = f.server.Serve(ln)
	}()
	return f, nil
}

func (f *fhirServer) close() {
	_ = f.server.Close()
	<-f.served
}

// handler routes, and records every request before it is answered.
func (f *fhirServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fhir/metadata", f.metadata)
	mux.HandleFunc("GET /fhir/{type}", f.search)
	mux.HandleFunc("GET /fhir/{type}/{id}", f.read)
	mux.HandleFunc("POST /fhir/{type}", f.create)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		outcome(w, http.StatusNotFound, "not-found", "There is nothing here")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.record(r)
		mux.ServeHTTP(w, r)
	})
}

func (f *fhirServer) record(r *http.Request) {
	seen := sighting{method: r.Method, uri: r.RequestURI}
	for name, values := range r.Header {
		// Behind many servers, CGI and Python's for example, X_Launch_Patient
		// arrives as the same variable as X-Launch-Patient.
		if strings.HasPrefix(fold(name), "x-launch-") {
			for _, value := range values {
				seen.launch = append(seen.launch, name+": "+value)
			}
		}
	}
	slices.Sort(seen.launch)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sightings = append(f.sightings, seen)
	if len(f.sightings) > 100 { // the story looks at the last one only
		f.sightings = slices.Clone(f.sightings[50:])
	}
}

// forget makes seen return only what comes after now.
func (f *fhirServer) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sightings = nil
}

// seen returns the requests since forget.
func (f *fhirServer) seen() []sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sightings)
}

// fold writes a header name as a careless server reads it.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
}

// visible tells if the request may see the resource.
func visible(r *http.Request, res resource) bool {
	patient := r.Header.Get("X-Launch-Patient")
	return patient == "" || res.patient() == patient
}

func (f *fhirServer) search(w http.ResponseWriter, r *http.Request) {
	kind, query := r.PathValue("type"), r.URL.Query()
	if kind != "Patient" && kind != "Task" {
		outcome(w, http.StatusNotFound, "not-supported", "Only Patient and Task are kept here")
		return
	}
	type entry struct {
		FullURL  string   `json:"fullUrl"`
		Resource resource `json:"resource"`
	}
	bundle := struct {
		ResourceType string  `json:"resourceType"`
		Type         string  `json:"type"`
		Total        int     `json:"total"`
		Entry        []entry `json:"entry,omitempty"`
	}{ResourceType: "Bundle", Type: "searchset"}
	is := func(parameter, value string) bool { return !query.Has(parameter) || query.Get(parameter) == value }
	f.mu.Lock()
	for _, res := range f.resources {
		if res.ResourceType == kind && visible(r, res) && is("_id", res.ID) && is("status", res.Status) &&
			(is("patient", res.patient()) || is("patient", "Patient/"+res.patient())) {
			bundle.Entry = append(bundle.Entry, entry{"http://" + r.Host + "/fhir/" + kind + "/" + res.ID, res})
		}
	}
	f.mu.Unlock()
	bundle.Total = len(bundle.Entry)
	writeFHIR(w, http.StatusOK, bundle)
}

func (f *fhirServer) read(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	i := slices.IndexFunc(f.resources, func(res resource) bool {
		return res.ResourceType == r.PathValue("type") && res.ID == r.PathValue("id") && visible(r, res)
	})
	var res resource
	if i >= 0 {
		res = f.resources[i]
	}
	f.mu.Unlock()
	if i < 0 { // another patient's resource looks the same as none
		outcome(w, http.StatusNotFound, "not-found", "There is no such resource")
		return
	}
	writeFHIR(w, http.StatusOK, res)
}

func (f *fhirServer) create(w http.ResponseWriter, r *http.Request) {
	var res resource
	err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&res)
	if kind := r.PathValue("type"); err != nil || kind != "Task" || res.ResourceType != kind {
		outcome(w, http.StatusBadRequest, "invalid", "Only a Task can be created")
		return
	}
	if !visible(r, res) {
		outcome(w, http.StatusForbidden, "forbidden", "The Task is for another patient")
		return
	}
	f.mu.Lock()
	res.ID = "new-" + strconv.Itoa(len(f.resources)+1)
	f.resources = append(f.resources, res)
	f.mu.Unlock()
	w.Header().Set("Location", "http://"+r.Host+"/fhir/Task/"+res.ID)
	writeFHIR(w, http.StatusCreated, res)
}

// metadata is the capability statement. It names the introspection endpoint, as
// SMART asks of the security section.
func (f *fhirServer) metadata(w http.ResponseWriter, _ *http.Request) {
	type m = map[string]any
	interactions := []m{{"code": "read"}, {"code": "search-type"}}
	writeFHIR(w, http.StatusOK, struct {
		ResourceType string `json:"resourceType"`
		Status       string `json:"status"`
		Kind         string `json:"kind"`
		FHIRVersion  string `json:"fhirVersion"`
		Format       []any  `json:"format"`
		Rest         []m    `json:"rest"`
	}{"CapabilityStatement", "active", "instance", "4.0.1", []any{"json"}, []m{{
		"mode": "server",
		"security": m{"extension": []m{{
			"url":       "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
			"extension": []m{{"url": "introspect", "valueUri": f.introspection}},
		}}},
		"resource": []m{
			{"type": "Patient", "interaction": interactions},
			{"type": "Task", "interaction": append(interactions, m{"code": "create"})},
		},
	}}})
}

func outcome(w http.ResponseWriter, status int, code, text string) {
	type issue struct {
		Severity    string `json:"severity"`
		Code        string `json:"code"`
		Diagnostics string `json:"diagnostics"`
	}
	writeFHIR(w, status, struct {
		ResourceType string  `json:"resourceType"`
		Issue        []issue `json:"issue"`
	}{"OperationOutcome", []issue{{"error", code, text}}})
}

func writeFHIR(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/fhir+json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
