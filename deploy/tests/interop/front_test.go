package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// front is a proxy that ends TLS in front of the sidecar.
type front struct {
	config  string // with the places that are filled in: folder, port, sidecar
	command func(t *testing.T, folder string) *exec.Cmd
}

var fronts = map[string]front{
	"nginx": {`
daemon off; pid {{folder}}/pid; error_log stderr; worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path {{folder}}/body; proxy_temp_path {{folder}}/proxy; fastcgi_temp_path {{folder}}/f; uwsgi_temp_path {{folder}}/u; scgi_temp_path {{folder}}/s;
  server {
    listen 127.0.0.1:{{port}} ssl http2;
    ssl_certificate {{folder}}/cert.pem; ssl_certificate_key {{folder}}/key.pem;
    location / {
      proxy_pass http://{{sidecar}};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Port $server_port;
    }
  }
}`, func(t *testing.T, folder string) *exec.Cmd {
		return exec.Command("nginx", "-p", folder, "-e", "stderr", "-c", filepath.Join(folder, "config"))
	}},
	"haproxy": {`
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend tls
  bind 127.0.0.1:{{port}} ssl crt {{folder}}/both.pem alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port {{port}}
  default_backend sidecar
backend sidecar
  server sidecar {{sidecar}}
`, func(t *testing.T, folder string) *exec.Cmd {
		return exec.Command("haproxy", "-db", "-f", filepath.Join(folder, "config"))
	}},
	"caddy": {`
{
  admin off
  auto_https off
}
https://127.0.0.1:{{port}} {
  bind 127.0.0.1
  tls {{folder}}/cert.pem {{folder}}/key.pem
  reverse_proxy {{sidecar}} {
    header_up X-Forwarded-Port {http.request.port}
  }
}`, func(t *testing.T, folder string) *exec.Cmd {
		cmd := exec.Command(tool(t, "CADDY"), "run", "--adapter", "caddyfile", "--config", filepath.Join(folder, "config"))
		cmd.Env = append(os.Environ(), "HOME="+folder)
		return cmd
	}},
}

// start runs it in front of a sidecar. Its certificate is for 127.0.0.1.
func (f front) start(t *testing.T, name, sidecar string) (base string, roots *x509.CertPool) {
	t.Helper()
	folder, port := t.TempDir(), freePort(t)
	cert, key, roots := certificate(t)
	for file, content := range map[string]string{
		"cert.pem": cert, "key.pem": key, "both.pem": cert + key,
		"config": fill(f.config, "folder", folder, "port", port, "sidecar", sidecar),
	} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, name, f.command(t, folder))
	eventually(t, name+" to listen", func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s ended\n%s", name, p.log.tail())
		default:
		}
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "https://127.0.0.1:" + port, roots
}

// behindFront reads and pages by way of a proxy that ends TLS, over both HTTPs.
func behindFront(t *testing.T, h hapi, f front) {
	h.reset(t)
	trusting := inFront(t, h.base, env{"TRUSTED_PROXIES": "127.0.0.0/8"})
	base, roots := f.start(t, t.Name(), trusting.data)
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprint("http", major), func(t *testing.T) {
			c := over(roots, major)
			req := request(t, http.MethodGet, base+"/fhir/Patient/p1", "", "Authorization", "Bearer everything")
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK || res.ProtoMajor != major {
				t.Errorf("got status %d over HTTP/%d, want 200 over HTTP/%d", res.StatusCode, res.ProtoMajor, major)
			}
			wantPages(t, c, base+"/fhir", "/Patient?family=Botje", "everything", 7)
			refused := sendBy(t, c, request(t, http.MethodGet, base+"/fhir/Patient/p1", "", "Authorization", "Bearer junk"))
			if refused.status != http.StatusUnauthorized {
				t.Errorf("junk: got status %d, want 401", refused.status)
			}
		})
	}
	// The FHIR server sees the client's address, not only the proxy's.
	seen := sendBy(t, over(roots, 1), request(t, http.MethodGet, base+"/fhir/$headers", "", "Authorization", "Bearer everything"))
	if seen.status != http.StatusOK {
		t.Errorf("$headers: got status %d, want 200\n%s", seen.status, seen.body)
	}
}

// over is a client that speaks one version of HTTP.
func over(roots *x509.CertPool, major int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(major == 1)
	protocols.SetHTTP2(major == 2)
	return &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Protocols: protocols, DisableKeepAlives: major == 1},
	}
}

// certificate makes one for 127.0.0.1, its key, and what trusts it.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "interop"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})), roots
}
