package main

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// recording begins the file of a recorder that works.
const recording = "recording\n"

// dialFile is the variable with the recorder's file.
const dialFile = "RECORD_DIALS"

// dialRecord makes the recorder's file. It isn't in the test's own directory, where
// a test may look for what the sidecar writes.
func dialRecord(t *testing.T) string {
	t.Helper()
	file, err := os.CreateTemp("", "dials")
	if err != nil {
		t.Fatalf("os.CreateTemp: got error %v, want none", err)
	}
	_ = file.Close()
	t.Cleanup(func() { _ = os.Remove(file.Name()) })
	return file.Name()
}

// dials returns where the process has connected to, each once, and whether that was
// recorded at all.
func (c *child) dials() (dialed []string, recorded bool) {
	text, _ := os.ReadFile(c.dialed)
	lines, recorded := strings.CutPrefix(string(text), recording)
	lines = strings.ReplaceAll(lines, recording, "") // of another process with the same environment
	dialed = strings.Fields(strings.ReplaceAll(lines, " ", "_"))
	slices.Sort(dialed)
	return slices.Compact(dialed), recorded
}

// strayDials are connections to what no setting names (M08): whatever clients, tokens
// and documents say, they don't choose a destination.
func (c *child) strayDials() []string {
	named, names := destinations(c.cmd.Env)
	dialed, _ := c.dials()
	return slices.DeleteFunc(dialed, func(address string) bool {
		network, address, _ := strings.Cut(address, "_")
		host, port, _ := net.SplitHostPort(address)
		switch {
		case network == "udp":
			return names && (port == "53" || port == "9")
		case names && !net.ParseIP(host).IsLoopback():
			return true // what a name stands for is the resolver's word
		}
		return named[address] || named[host]
	})
}

// destinations are the addresses in the settings, with or without a port, and whether
// some are names that have to be resolved.
func destinations(environ []string) (named map[string]bool, names bool) {
	named = map[string]bool{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if name == "SIDECAR_DISCOVERY_ALLOWED_HOSTS" {
			for item := range strings.SplitSeq(value, ",") {
				named[strings.TrimSpace(item)] = true
			}
			continue
		}
		u, err := url.Parse(value)
		if err != nil || u.Host == "" || !strings.HasSuffix(name, "_URL") && !strings.HasSuffix(name, "_ENDPOINT") {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		hosts := []string{u.Hostname()}
		if hosts[0] == "localhost" {
			hosts = []string{"127.0.0.1", "::1"}
		}
		if ip := net.ParseIP(hosts[0]); name == "SIDECAR_UPSTREAM_URL" && ip != nil && ip.IsLoopback() {
			hosts = append(hosts, ownAddresses()...) // where the bypass guard looks
		}
		for _, host := range hosts {
			named[net.JoinHostPort(host, port)] = true
			names = names || net.ParseIP(host) == nil
		}
	}
	return named, names
}

// ownAddresses are those of this host's interfaces.
func ownAddresses() (own []string) {
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if prefix, ok := a.(*net.IPNet); ok {
			own = append(own, prefix.IP.String())
		}
	}
	return own
}

// TestDestinations (M08): the settings decide, and nothing else does.
func TestDestinations(t *testing.T) {
	environ := []string{
		"SIDECAR_UPSTREAM_URL=http://127.0.0.1:8080/fhir", "SIDECAR_ISSUER_URL=https://[::1]", "SIDECAR_DISCOVERY_ALLOWED_HOSTS=10.0.0.1, 10.0.0.2:443",
		"SIDECAR_LISTEN_ADDRESS=127.0.0.1:8000", "SIDECAR_REQUIRED_ISSUERS=http://127.0.0.1:8000", "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318",
	}
	c := child{cmd: &exec.Cmd{Env: environ}, dialed: writeFile(t, "dials", recording+"tcp 127.0.0.1:8080\ntcp [::1]:443\ntcp 10.0.0.1:7\ntcp 10.0.0.2:443\ntcp 127.0.0.1:4318\n"+
		"tcp 127.0.0.1:8000\ntcp 10.0.0.2:80\ntcp 127.0.0.1:8080\nudp 10.0.0.9:53\n")}
	if got := strings.Join(c.strayDials(), " "); got != "tcp_10.0.0.2:80 tcp_127.0.0.1:8000 udp_10.0.0.9:53" {
		t.Errorf("got stray dials %s, want those that no setting names", got)
	}
}
