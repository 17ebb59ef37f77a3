package sharedcache

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestOtherDeployment: two deployments that share a store, its account and the prefix by
// mistake, but no secret, know nothing of each other.
func TestOtherDeployment(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	ours := w.replicas(t, 2)
	theirs := w.start(t, env{"SHARED_CACHE_KEY_FILE": writeFile(t, "key", strings.Repeat("7b", 32))})
	theirs.connected()
	tokens := w.tokens("t", 10)
	everywhere(ours, tokens)
	everywhere([]*sidecar{theirs}, tokens)
	w.wantCalls(t, tokens, 2) // each once
	if got := len(store.verdicts(t, root)); got != 2*len(tokens) {
		t.Errorf("verdicts: got %d, want %d", got, 2*len(tokens))
	}
	if got := theirs.metric("shared_cache_lookups_total", "undecryptable"); got != 0 {
		t.Errorf("undecryptable: got %v, want 0", got)
	}
	if status, body := ours[0].purge(""); status != 200 || body["published"] != true {
		t.Errorf("purge: got %d %v, want 200, published", status, body)
	}
	within(t, time.Second, "the purge", func() bool { return ours[1].metric("purges_total", "feed") == 1 })
	eventually(t, "a line in their log", func() bool { return theirs.log.count("entry of the purge feed doesn't open") == 1 })
	if got := theirs.metric("purges_total", "feed"); got != 0 {
		t.Errorf("their purges: got %v, want 0", got)
	}
	everywhere([]*sidecar{theirs}, tokens)
	w.wantCalls(t, tokens, 2)
	if got := theirs.metric("shared_cache_connected"); got != 1 {
		t.Errorf("their connection: got %v, want 1", got)
	}
}

// TestNarrowedAccount: rights that an account loses while replicas run are told as such,
// and the replicas serve without the store until it has them again.
func TestNarrowedAccount(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	all := w.replicas(t, 2)
	refused := func() (sum float64) {
		for _, s := range all {
			sum += s.metric("shared_cache_errors_total", "auth")
		}
		return sum
	}
	for _, right := range []string{"set", "get", "watch", "multi", "exec", "xread", "xadd"} {
		store.do(t, root, "ACL", "SETUSER", "fis", "-"+right)
		before := refused()
		// A good token, an unknown one, for which verdicts are exchanged, and a purge.
		token := w.tokens("without-"+right, 1)
		if got := everywhere(all, token); got[200] != 2 {
			t.Errorf("without %s: got statuses %v, want 200 only", right, got)
		}
		// Who asks about the unknown one may be unable to say so to the other, which waits.
		if got := everywhere(all, []string{"unknown-without-" + right}); got[401] == 0 || got[401]+got[503] != 2 {
			t.Errorf("unknown token without %s: got statuses %v, want 401, and 503 at most once", right, got)
		}
		if status, body := all[0].purge("?sub=nobody"); (status == 200) != (right != "xadd") {
			t.Errorf("purge without %s: got %d %v", right, status, body)
		}
		eventually(t, "an error for the want of "+right, func() bool { return refused() > before })
		store.do(t, root, "ACL", "SETUSER", "fis", "+"+right)
		for _, s := range all {
			s.connected()
		}
		tries := 0
		eventually(t, "a token asked about once after "+right, func() bool {
			tries++
			token := w.tokens(fmt.Sprint("again-", right, tries), 1)
			return everywhere(all, token)[200] == 2 && w.as.IntrospectionsOf(token[0]) == 1
		})
	}
}

// TestNewCertificates: the store gets a certificate of another authority, then replicas
// get theirs from it. Nobody restarts.
func TestNewCertificates(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	address := net.IPv4(127, 0, 0, 1)
	_, _, certFile, keyFile := old.sign(leaf("store.test", address))
	both := writeFile(t, "both", readFile(t, old.file)+readFile(t, next.file))
	store := newServer(t, binaryOf(t, "REDIS_7"),
		"user fis on >"+password+" "+strings.Join(rules, " "), "user default off", "user root on >root ~* &* +@all",
		"tls-cert-file "+certFile, "tls-key-file "+keyFile, "tls-ca-cert-file "+both, "tls-auth-clients yes", "unixsocket root.sock")
	store.replaceInConf(t, "port ", "port 0\ntls-port ")
	store.start(t)
	root := store.rootThrough(t, "root.sock")
	w := newWorld(t, false, store.settings(t))
	_, _, clientCert, clientKey := old.sign(leaf("sidecar"))
	trust := writeFile(t, "trust", readFile(t, old.file))
	w.settings["SHARED_CACHE_TLS"], w.settings["SHARED_CACHE_CA_FILE"] = "true", trust
	w.settings["SHARED_CACHE_CLIENT_CERT_FILE"], w.settings["SHARED_CACHE_CLIENT_CERT_KEY_FILE"] = clientCert, clientKey
	all := w.replicas(t, 2)
	tries := 0
	shares := func(when string) {
		t.Helper()
		eventually(t, "a token asked about once "+when, func() bool {
			tries++
			token := w.tokens(fmt.Sprint("try-", tries), 1)
			return everywhere(all, token)[200] == 2 && w.as.IntrospectionsOf(token[0]) == 1
		})
	}
	shares("before")
	_, _, certFile, keyFile = next.sign(leaf("store.test", address))
	store.do(t, root, "CONFIG", "SET", "tls-cert-file", certFile, "tls-key-file", keyFile)
	shares("on connections that are there")
	store.do(t, root, "CLIENT", "KILL", "USER", "fis")
	for _, s := range all {
		eventually(t, "the loss of a store that isn't trusted", func() bool { return s.metric("shared_cache_connected") == 0 })
	}
	all[0].wantStatus(w.tokens("alone", 1)[0], 200)
	overwrite(t, trust, readFile(t, both))
	shares("with the new trust")
	_, _, newCert, newKey := next.sign(leaf("sidecar"))
	overwrite(t, clientCert, readFile(t, newCert))
	overwrite(t, clientKey, readFile(t, newKey))
	// The old authority is no longer trusted by the store.
	store.do(t, root, "CONFIG", "SET", "tls-ca-cert-file", next.file)
	store.do(t, root, "CLIENT", "KILL", "USER", "fis")
	shares("with new client certificates")
}
