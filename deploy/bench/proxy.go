package main

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed conf
var confs embed.FS

// The proxies that the sidecar is compared with.
const (
	nameNginx   = "nginx"
	nameLua     = "nginx+Lua"
	nameHAProxy = "HAProxy+Lua"
	nameApache  = "Apache, mod_auth_openidc"
	nameForward = "nginx, forwarding only"
	nameGo      = "Go ReverseProxy, forwarding only"
)

// proxy is one of those that are compared, with a process for each way of running it.
type proxy struct {
	name   string
	binary string // of a sidecar
	plain  target
	tls    target
	large  target // with large buffers, if those have to be set
	// equal says that it does the sidecar's whole job.
	equal bool
}

// target is where requests go.
type target struct {
	process *process
	host    string // with port
	scheme  string
}

func (t target) url() string { return t.scheme + "://" + t.host + "/fhir" }

// of returns the target of a case.
func (p *proxy) of(c testCase) target {
	switch {
	case c.tls:
		return p.tls
	case c.large && p.large.process != nil:
		return p.large
	default:
		return p.plain
	}
}

// world is what all proxies have around them.
type world struct {
	dir                   string
	loadCore, proxyCore   string
	fhir, endpoint, asTLS int // ports
	ports                 map[int]bool
	processes             []*process
	instances             int
}

func (w *world) stop() {
	for _, p := range slices.Backward(w.processes) {
		p.stop()
	}
}

func (w *world) port() (int, error) { return freePort(w.ports) }

// run starts a process and waits until it listens on the ports.
func (w *world) run(core string, env []string, command []string, ports ...int) (*process, error) {
	p, err := start(core, filepath.Join(w.dir, "log"), env, command...)
	if err != nil {
		return nil, err
	}
	w.processes = append(w.processes, p)
	for _, port := range ports {
		if err := p.listens(address(port)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// servers starts the FHIR server and the introspection endpoint.
func (w *world) servers() (err error) {
	for _, port := range []*int{&w.fhir, &w.endpoint, &w.asTLS} {
		if *port, err = w.port(); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = w.run(w.loadCore, nil, []string{self, "serve", address(w.fhir), address(w.endpoint), address(w.asTLS)},
		w.fhir, w.endpoint, w.asTLS)
	return err
}

// sidecar starts a sidecar, over TLS or not, with more settings.
func (w *world) sidecar(binary string, tls bool, settings ...string) (target, error) {
	data, err := w.port()
	if err != nil {
		return target{}, err
	}
	admin, err := w.port()
	if err != nil {
		return target{}, err
	}
	env := append(w.sidecarEnv(data, admin), settings...)
	t := target{host: address(data), scheme: "http"}
	if tls {
		env = append(env, "SIDECAR_TLS_CERT_FILE="+filepath.Join(w.dir, "tls.crt"), "SIDECAR_TLS_KEY_FILE="+filepath.Join(w.dir, "tls.key"))
		t.scheme = "https"
	}
	t.process, err = w.run(w.proxyCore, env, []string{binary}, data, admin)
	return t, err
}

func (w *world) sidecarEnv(data, admin int) []string {
	return []string{
		"SIDECAR_LISTEN_ADDRESS=" + address(data), "SIDECAR_ADMIN_ADDRESS=" + address(admin),
		"SIDECAR_UPSTREAM_URL=http://" + address(w.fhir) + "/fhir",
		"SIDECAR_INTROSPECTION_ENDPOINT=http://" + address(w.endpoint) + "/introspect",
		"SIDECAR_BEARER_TOKEN_FILE=" + filepath.Join(w.dir, "credential"),
	}
}

// configured starts a proxy that reads a configuration, with the words between @ filled
// in. In command DIR is where its files are.
func (w *world) configured(command []string, words map[string]string) (plain, tls target, err error) {
	w.instances++
	dir := filepath.Join(w.dir, strconv.Itoa(w.instances))
	port, err := w.port()
	if err != nil {
		return plain, tls, err
	}
	tlsPort, err := w.port()
	if err != nil {
		return plain, tls, err
	}
	all := map[string]string{
		"DIR": dir, "PORT": strconv.Itoa(port), "TLS_PORT": strconv.Itoa(tlsPort), "FHIR_PORT": strconv.Itoa(w.fhir),
		"INTROSPECTION_PORT": strconv.Itoa(w.endpoint), "AS_TLS_PORT": strconv.Itoa(w.asTLS), "CREDENTIAL": credential,
		"MODULES": "/usr/lib/nginx/modules", "APACHE_MODULES": "/usr/lib/apache2/modules", "USER": "", "BUFFERS": "",
	}
	if os.Geteuid() == 0 {
		all["USER"] = "user root;" // who may read the temporary directory
	}
	maps.Copy(all, words)
	if err := writeConfs(dir, all); err != nil {
		return plain, tls, err
	}
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "DIR", dir)
	}
	p, err := w.run(w.proxyCore, nil, command, port)
	return target{p, address(port), "http"}, target{p, address(tlsPort), "https"}, err
}

func writeConfs(dir string, words map[string]string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var pairs []string
	for word, text := range words {
		pairs = append(pairs, "@"+word+"@", text)
	}
	replacer := strings.NewReplacer(pairs...)
	entries, err := confs.ReadDir("conf")
	if err != nil {
		return err
	}
	for _, e := range entries {
		raw, err := confs.ReadFile("conf/" + e.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, e.Name()), []byte(replacer.Replace(string(raw))), 0o600)
		}
		if err != nil {
			return err
		}
	}
	pem, err := os.ReadFile(filepath.Join(dir, "..", "tls.pem"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "tls.pem"), pem, 0o600)
}

// proxies starts all of them, sidecars first. The names are those in the report.
func (w *world) proxies(sidecars []string) (all []*proxy, err error) {
	for i, binary := range sidecars {
		p := &proxy{name: "sidecar", binary: binary, equal: true}
		if i > 0 {
			p.name = fmt.Sprintf("sidecar (%s)", filepath.Base(binary))
		}
		if p.plain, err = w.sidecar(binary, false); err != nil {
			return nil, err
		}
		if p.tls, err = w.sidecar(binary, true); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, kind := range [][2]string{{nameNginx, "nginx.conf"}, {nameLua, "nginx-lua.conf"}} {
		p := &proxy{name: kind[0], equal: true}
		command := func() []string { return []string{"nginx", "-e", "DIR/nginx.log", "-c", "DIR/" + kind[1]} }
		if p.plain, p.tls, err = w.configured(command(), nil); err != nil {
			return nil, err
		}
		// The size of a read from the FHIR server, for responses don't wait in buffers.
		p.large, _, err = w.configured(command(), map[string]string{"BUFFERS": "proxy_buffer_size 64k; proxy_buffers 8 64k;"})
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	haproxy := &proxy{name: nameHAProxy, equal: true}
	if haproxy.plain, haproxy.tls, err = w.configured([]string{"haproxy", "-db", "-f", "DIR/haproxy.cfg"}, nil); err != nil {
		return nil, err
	}
	return append(all, haproxy), nil
}

// lesser starts the proxies that do a part of the job, or only forward.
func (w *world) lesser() (all []*proxy, err error) {
	apache := &proxy{name: nameApache}
	if apache.plain, _, err = w.configured([]string{"apache2", "-DFOREGROUND", "-f", "DIR/apache.conf"}, nil); err != nil {
		return nil, err
	}
	forward := &proxy{name: nameForward}
	if forward.plain, _, err = w.configured([]string{"nginx", "-e", "DIR/nginx.log", "-c", "DIR/forward.conf"}, nil); err != nil {
		return nil, err
	}
	port, err := w.port()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := w.run(w.proxyCore, nil, []string{self, "plain", address(port), "http://" + address(w.fhir)}, port)
	if err != nil {
		return nil, err
	}
	return []*proxy{apache, forward, {name: nameGo, plain: target{p, address(port), "http"}}}, nil
}
