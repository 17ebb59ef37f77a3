package sharedcache

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.file, _ = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign makes a certificate with its key, as PEM files.
func (a *authority) sign(template *x509.Certificate) (cert *x509.Certificate, key *ecdsa.PrivateKey, certFile, keyFile string) {
	a.t.Helper()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key,
		writeFile(a.t, "cert", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		writeFile(a.t, "key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func leaf(name string, ips ...net.IP) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// TestTLS: with client certificates, and only with a store whose name and issuer
// are right. Files are read again.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, _, certFile, keyFile := ca.sign(leaf("store.test", net.IPv4(127, 0, 0, 1)))
	store := newServer(t, binaryOf(t, "REDIS_7"),
		"user fis on >"+password+" "+strings.Join(rules, " "), "user default off",
		"tls-cert-file "+certFile, "tls-key-file "+keyFile, "tls-ca-cert-file "+ca.file, "tls-auth-clients yes")
	store.replaceInConf(t, "port ", "port 0\ntls-port ")
	store.start(t)
	w := newWorld(t, false, store.settings(t))
	_, _, clientCert, clientKey := ca.sign(leaf("sidecar"))
	w.settings["SHARED_CACHE_TLS"], w.settings["SHARED_CACHE_CA_FILE"] = "true", ca.file
	w.settings["SHARED_CACHE_CLIENT_CERT_FILE"], w.settings["SHARED_CACHE_CLIENT_CERT_KEY_FILE"] = clientCert, clientKey
	all := w.replicas(t, 2)
	tokens := w.tokens("t", 5)
	everywhere(all, tokens)
	w.wantCalls(t, tokens, 1)
	for _, tt := range []struct {
		name   string
		change env
		want   string
	}{
		{"another authority", env{"SHARED_CACHE_CA_FILE": other.file}, "SIDECAR_SHARED_CACHE_CA_FILE"},
		{"another name", env{"SHARED_CACHE_ADDRESSES": strings.Replace(store.address, "127.0.0.1", "localhost", 1)}, "its certificate is for another name"},
		{"no client certificate", env{"SHARED_CACHE_CLIENT_CERT_FILE": "-", "SHARED_CACHE_CLIENT_CERT_KEY_FILE": "-"}, "SIDECAR_SHARED_CACHE_"},
		{"no TLS", env{"SHARED_CACHE_TLS": "false", "SHARED_CACHE_CA_FILE": "-", "SHARED_CACHE_CLIENT_CERT_FILE": "-", "SHARED_CACHE_CLIENT_CERT_KEY_FILE": "-"}, "wants TLS and we don't use it"},
	} {
		if output, err := w.run(tt.change, "check"); err == nil || !strings.Contains(output, tt.want) {
			t.Errorf("%s: got %v\n%s\nwant a failure that says %q", tt.name, err, output, tt.want)
		}
	}
	// Trust that came later is taken without a restart.
	trust := writeFile(t, "ca", readFile(t, other.file))
	s := w.start(t, env{"SHARED_CACHE_CA_FILE": trust})
	s.wantStatus(tokens[0], 200)
	overwrite(t, trust, readFile(t, ca.file))
	s.connected()
}

// startSentinels runs a master, its replica and three sentinels that watch them, and
// returns the settings of a sidecar that uses them.
func startSentinels(t *testing.T) (master, replica *server, settings env) {
	t.Helper()
	accounts := []string{
		"user fis on >" + password + " " + strings.Join(append(rules, "+role"), " "),
		"user default off", "user root on >root ~* &* +@all", "masteruser root", "masterauth root",
	}
	master = newServer(t, binaryOf(t, "REDIS_7"), accounts...)
	master.start(t)
	host, port, _ := net.SplitHostPort(master.address)
	replica = newServer(t, binaryOf(t, "REDIS_7"), append(accounts, "replicaof "+host+" "+port)...)
	replica.start(t)
	root := replica.root(t)
	eventually(t, "replication", func() bool {
		return strings.Contains(replica.do(t, root, "INFO", "replication"), "master_link_status:up")
	})
	var addresses []string
	for range 3 {
		sentinel := newServer(t, "/usr/bin/redis-sentinel",
			"sentinel monitor mymaster "+host+" "+port+" 2", "sentinel auth-user mymaster root", "sentinel auth-pass mymaster root",
			"sentinel down-after-milliseconds mymaster 1000", "sentinel failover-timeout mymaster 10000",
			"user default off", "user root on >root ~* &* +@all",
			"user watcher on >a-sentinel-password allchannels -@all +auth +hello +ping +client|setname +subscribe +psubscribe +sentinel|get-master-addr-by-name +sentinel|sentinels +sentinel|replicas",
			"sentinel sentinel-user root", "sentinel sentinel-pass root")
		sentinel.start(t)
		addresses = append(addresses, sentinel.address)
		client := sentinel.root(t)
		eventually(t, "the sentinel knows the replica", func() bool {
			return strings.Contains(sentinel.do(t, client, "SENTINEL", "replicas", "mymaster"), "127.0.0.1")
		})
	}
	settings = master.settings(t)
	settings["SHARED_CACHE_ADDRESSES"] = strings.Join(addresses, ",")
	settings["SHARED_CACHE_SENTINEL_MASTER"] = "mymaster"
	settings["SHARED_CACHE_SENTINEL_USERNAME"] = "watcher"
	settings["SHARED_CACHE_SENTINEL_PASSWORD_FILE"] = writeFile(t, "p", "a-sentinel-password\n")
	return master, replica, settings
}

// TestSentinel: the master dies, and replicas share again through the next one.
func TestSentinel(t *testing.T) {
	master, _, settings := startSentinels(t)
	w := newWorld(t, true, settings)
	all := w.replicas(t, 3)
	before := w.tokens("before", 20)
	everywhere(all[:1], before)
	if status, body := all[0].purge("?sub=nobody"); status != 200 || body["replicated"] != true {
		t.Errorf("purge: got %d %v, want 200, replicated", status, body)
	}
	master.kill()
	begin := time.Now()
	for _, s := range all {
		eventually(t, "the loss", func() bool { return s.log.count("shared cache lost") > 0 })
		s.connected()
	}
	t.Logf("shared again after %v", time.Since(begin))
	// What was written before is still known, and new tokens are asked about once.
	if got := everywhere(all[1:], before); got[200] != 2*len(before) {
		t.Errorf("tokens from before: got statuses %v, want 200 only", got)
	}
	after := w.tokens("after", 20)
	if got := everywhere(all, after); got[200] != len(all)*len(after) {
		t.Errorf("tokens from after: got statuses %v, want 200 only", got)
	}
	w.wantCalls(t, append(before, after...), 1)
	if status, body := all[0].purge("?sub=nobody"); status != 200 || body["published"] != true || body["replicated"] != false {
		t.Errorf("purge: got %d %v, want 200, published, not replicated", status, body)
	}
}

// startCluster runs three nodes, and returns the settings of a sidecar that uses them.
func startCluster(t *testing.T) (nodes []*server, settings env) {
	t.Helper()
	for range 3 {
		node := newServer(t, binaryOf(t, "VALKEY_9"),
			"user fis on >"+password+" "+strings.Join(append(rules, "+cluster|slots", "+cluster|shards"), " "),
			"user default off", "user root on >root ~* &* +@all",
			"cluster-enabled yes", "cluster-require-full-coverage no", "cluster-node-timeout 2000")
		node.start(t)
		nodes = append(nodes, node)
	}
	first := nodes[0].root(t)
	for i, node := range nodes {
		root := node.root(t)
		node.do(t, root, "CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*5462), fmt.Sprint(min(i*5462+5461, 16383)))
		host, port, _ := net.SplitHostPort(node.address)
		if i > 0 {
			nodes[0].do(t, first, "CLUSTER", "MEET", host, port)
		}
	}
	for _, node := range nodes {
		root := node.root(t)
		eventually(t, "the cluster", func() bool {
			info := node.do(t, root, "CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384")
		})
	}
	settings = nodes[0].settings(t)
	settings["SHARED_CACHE_CLUSTER"] = "true"
	settings["SHARED_CACHE_ADDRESSES"] = nodes[0].address + "," + nodes[1].address + "," + nodes[2].address
	return nodes, settings
}

// TestCluster: three nodes; one that dies takes only its own slots with it.
func TestCluster(t *testing.T) {
	nodes, settings := startCluster(t)
	w := newWorld(t, false, settings)
	all := w.replicas(t, 2)
	tokens := w.tokens("t", 60)
	everywhere(all, tokens)
	w.wantCalls(t, tokens, 1)
	if status, body := all[0].purge("?sub=sub-of-" + tokens[0]); status != 200 || body["published"] != true {
		t.Errorf("purge: got %d %v, want 200, published", status, body)
	}
	within(t, 2*time.Second, "the purge", func() bool { return all[1].metric("purges_total", "feed") == 1 })
	if output, err := w.run(nil, "check"); err != nil {
		t.Errorf("check: got %v, want success\n%s", err, output)
	}

	// The node of the feed's slot stays.
	owner := strings.Fields(nodes[0].do(t, nodes[0].root(t), "CLUSTER", "KEYSLOT", "fis:feed"))[0]
	var slot int
	_, _ = fmt.Sscan(owner, &slot)
	dead := (slot/5462 + 1) % 3
	nodes[dead].kill()
	more := w.tokens("more", 90)
	for _, token := range more {
		all[0].wantStatus(token, 200)
		all[1].wantStatus(token, 200)
	}
	shared := 0
	for _, token := range more {
		if w.as.IntrospectionsOf(token) == 1 {
			shared++
		}
	}
	if shared < 30 {
		t.Errorf("tokens that were shared: got %d of %d, want about two thirds", shared, len(more))
	}
	t.Logf("%d of %d shared", shared, len(more))
}
