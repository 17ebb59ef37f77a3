package sharedcache

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStoreDownAtStart: replicas start and serve without it, and share once it is
// there, without a restart.
func TestStoreDownAtStart(t *testing.T) {
	store := newServer(t, binaryOf(t, "REDIS_7"), "user fis on >"+password+" "+strings.Join(rules, " "), "user default off")
	w := newWorld(t, false, store.settings(t))
	first, second := w.start(t, nil), w.start(t, nil)
	tokens := w.tokens("t", 3)
	first.wantStatus(tokens[0], 200)
	if got := first.metric("shared_cache_connected"); got != 0 {
		t.Errorf("connected: got %v, want 0", got)
	}
	store.start(t)
	begin := time.Now()
	first.connected()
	second.connected()
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("connected after %v, want it within 5s or so", took)
	}
	first.wantStatus(tokens[1], 200)
	second.wantStatus(tokens[1], 200)
	w.wantCalls(t, tokens[1:2], 1)
	// What was found out before is shared by then, too.
	second.wantStatus(tokens[0], 200)
	w.wantCalls(t, tokens[:1], 1)
	if lost, back := first.log.count("shared cache lost"), first.log.count("shared cache back"); lost != 1 || back != 1 {
		t.Errorf("log: got %d lost, %d back, want 1 of each", lost, back)
	}
}

// TestHungStore: a store that is stopped holds nobody up for long, whoever is known
// not at all, and nothing piles up.
func TestHungStore(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	tokens := w.tokens("t", 300)
	s.wantStatus(tokens[0], 200)
	before := s.metric("go_goroutines")
	store.signal(t, syscall.SIGSTOP)
	defer store.signal(t, syscall.SIGCONT)
	var slowest time.Duration
	for _, token := range tokens[1:] {
		begin := time.Now()
		s.wantStatus(token, 200)
		slowest = max(slowest, time.Since(begin))
		begin = time.Now()
		s.wantStatus(tokens[0], 200)
		if took := time.Since(begin); took > time.Second {
			t.Errorf("known token: got a response after %v, want it at once", took)
		}
	}
	if slowest > 2300*time.Millisecond {
		t.Errorf("slowest: got %v, want at most an introspection and 0.3s", slowest)
	}
	if after := s.metric("go_goroutines"); after > before+20 {
		t.Errorf("goroutines: got %v, want about %v", after, before)
	}
	if got := s.metric("shared_cache_errors_total", "timeout"); got == 0 || got > 100 {
		t.Errorf("timeouts: got %v, want some, not one for each request", got)
	}
}

// TestRefuseWhileHung: with refuse, no token is used up while the store is away, and
// none is called inactive.
func TestRefuseWhileHung(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	w := newWorld(t, true, store.settings(t))
	w.settings["SHARED_CACHE_ON_FAILURE"] = "refuse"
	all := w.replicas(t, 2)
	known := w.tokens("known", 1)
	everywhere(all, known)
	store.signal(t, syscall.SIGSTOP)
	tokens := w.tokens("t", 50)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got := everywhere(all, tokens); got[503] != len(all)*len(tokens) {
			t.Errorf("got statuses %v, want 503 with Retry-After only", got)
			break
		}
		if got := everywhere(all, known); got[200] != len(all) {
			t.Errorf("known token: got statuses %v, want 200 only", got)
			break
		}
	}
	store.signal(t, syscall.SIGCONT)
	for _, s := range all {
		s.connected()
	}
	// A lease that the stopped store still had in its hands may have to run out.
	eventually(t, "verdicts", func() bool { return everywhere(all, tokens)[200] == len(all)*len(tokens) })
	w.wantCalls(t, tokens, 1)
}

// TestWiped: memory goes on, replicas notice, and sharing begins anew.
func TestWiped(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_8"))
	w := newWorld(t, false, store.settings(t))
	all := w.replicas(t, 3)
	tokens := w.tokens("t", 20)
	everywhere(all, tokens)
	store.do(t, store.root(t), "FLUSHALL")
	if got := everywhere(all, tokens); got[200] != len(all)*len(tokens) {
		t.Errorf("got statuses %v, want 200 only", got)
	}
	w.wantCalls(t, tokens, 1)
	for _, s := range all {
		eventually(t, "a reset", func() bool { return s.metric("shared_cache_resets_total") == 1 })
	}
	again := w.tokens("again", 20)
	everywhere(all, again)
	w.wantCalls(t, again, 1)
	// B8: a purge after the wipe reaches all.
	if status, body := all[0].purge("?sub=sub-of-" + again[0]); status != 200 || body["published"] != true {
		t.Errorf("purge: got %d %v, want 200, published", status, body)
	}
	for _, s := range all[1:] {
		within(t, 2*time.Second, "the purge", func() bool { return s.metric("purges_total", "feed") == 1 })
	}
}

// TestPassword: a wrong one and one without rights are told apart from an outage,
// and a new one is taken without a restart.
func TestPassword(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	file := writeFile(t, "password", "wrong")
	w.settings["SHARED_CACHE_PASSWORD_FILE"] = file
	s := w.start(t, nil)
	token := w.tokens("t", 1)[0]
	s.wantStatus(token, 200)
	eventually(t, "errors", func() bool { return s.metric("shared_cache_errors_total", "auth") > 0 })
	if got := s.metric("shared_cache_connected"); got != 0 {
		t.Errorf("connected: got %v, want 0", got)
	}
	overwrite(t, file, password+"\n")
	s.connected()
	// Rotated: the store takes only the new one and cuts the old connections.
	store.do(t, root, "ACL", "SETUSER", "fis", "resetpass", ">another-password")
	overwrite(t, file, "another-password\n")
	before := s.metric("shared_cache_errors_total")
	store.do(t, root, "CLIENT", "KILL", "USER", "fis")
	eventually(t, "a hit after the rotation", func() bool {
		token := w.tokens(fmt.Sprint("r", time.Now().UnixNano()), 1)[0]
		s.wantStatus(token, 200)
		return s.metric("shared_cache_lookups_total", "acquired") > 0
	})
	s.connected()
	if got := s.metric("shared_cache_errors_total") - before; got > 4 {
		t.Errorf("failed operations in the rotation: got %v, want a few", got)
	}
	// Without rights for its keys.
	store.do(t, root, "ACL", "SETUSER", "fis", "resetkeys", "~other:*")
	auth := s.metric("shared_cache_errors_total", "auth")
	s.wantStatus(w.tokens("norights", 1)[0], 200)
	eventually(t, "errors", func() bool { return s.metric("shared_cache_errors_total", "auth") > auth })
	if got := s.log.count("shared cache lost"); got == 0 {
		t.Error("log: got nothing, want shared cache lost")
	}
}

// TestFullAndReadOnly: a store that takes nothing is as good as away.
func TestFullAndReadOnly(t *testing.T) {
	store := startStore(t, binaryOf(t, "VALKEY_9"))
	root := store.root(t)
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	store.do(t, root, "CONFIG", "SET", "maxmemory", "1")
	s.wantStatus(w.tokens("full", 1)[0], 200)
	eventually(t, "errors", func() bool { return s.metric("shared_cache_errors_total", "memory") > 0 })
	store.do(t, root, "CONFIG", "SET", "maxmemory", "0")
	s.connected()
	store.do(t, root, "REPLICAOF", "127.0.0.1", "1")
	s.wantStatus(w.tokens("readonly", 1)[0], 200)
	eventually(t, "errors", func() bool { return s.metric("shared_cache_errors_total", "readonly") > 0 })
	store.do(t, root, "REPLICAOF", "NO", "ONE")
	s.connected()
}

// TestOldServer: Redis 6.2 has no SET NX GET. The replica serves without it.
func TestOldServer(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_6"))
	w := newWorld(t, false, store.settings(t))
	s := w.start(t, nil)
	s.wantStatus(w.tokens("t", 1)[0], 200)
	eventually(t, "errors", func() bool { return s.metric("shared_cache_errors_total", "other") > 0 })
	if got := s.log.count("shared cache lost"); got != 1 {
		t.Errorf("log: got %d times lost, want 1", got)
	}
}

// TestJunk: random tokens take a bounded room, and good ones go on.
func TestJunk(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	w := newWorld(t, false, store.settings(t))
	s := w.replicas(t, 1)[0]
	good := w.tokens("good", 1)[0]
	s.wantStatus(good, 200)
	for i := range 20 {
		junk := make([]string, 50)
		for j := range junk {
			junk[j] = fmt.Sprintf("junk-%d-%d", i, j)
		}
		if got := everywhere([]*sidecar{s}, junk); got[401] != len(junk) {
			t.Errorf("junk: got statuses %v, want 401 only", got)
		}
		s.wantStatus(good, 200)
	}
	root := store.root(t)
	eventually(t, "a store with the good token only", func() bool { return len(store.verdicts(t, root)) == 1 })
}

// TestCheck: the command says what is wrong with the store, and which setting to
// look at.
func TestCheck(t *testing.T) {
	store := startStore(t, binaryOf(t, "REDIS_7"))
	old := startStore(t, binaryOf(t, "REDIS_6"))
	root := store.root(t)
	w := newWorld(t, true, store.settings(t))
	for _, tt := range []struct {
		name     string
		change   env
		rules    []string // for the account
		want     []string
		succeeds bool
	}{
		{"right", nil, nil, []string{"redis 7.0.15, without TLS", "all commands, for fis:* only", "as ours", "may not ask for maxmemory-policy"}, true},
		{"all rights", nil, []string{"~*", "+@all"}, []string{"may also read keys", "maxmemory-policy is noeviction"}, true},
		{"no rights", nil, []string{"-xadd"}, []string{"XADD is refused for fis:*: NOPERM", "SIDECAR_SHARED_CACHE_USERNAME"}, false},
		{"other keys", env{"SHARED_CACHE_PREFIX": "other"}, nil, []string{"SET NX GET is refused for other:*"}, false},
		{"wrong password", env{"SHARED_CACHE_PASSWORD_FILE": writeFile(t, "p", "a-wrong-password")}, nil, []string{"WRONGPASS", "SIDECAR_SHARED_CACHE_PASSWORD_FILE"}, false},
		{"nobody there", env{"SHARED_CACHE_ADDRESSES": "127.0.0.1:1"}, nil, []string{"no connection", "SIDECAR_SHARED_CACHE_ADDRESSES"}, false},
		{"old", env{"SHARED_CACHE_ADDRESSES": old.address}, nil, []string{"redis 6.2.5 is too old", "it needs Redis 7.0 or newer"}, false},
		{"no TLS there", env{"SHARED_CACHE_TLS": "true"}, nil, []string{"SIDECAR_SHARED_CACHE_TLS"}, false},
		{"nothing shared", env{"SHARED_CACHE_ADDRESSES": "-", "SHARED_CACHE_USERNAME": "-", "SHARED_CACHE_PASSWORD_FILE": "-", "SHARED_CACHE_KEY_FILE": "-", "SHARED_CACHE_TLS": "-"}, nil, []string{"answers once per token", "SIDECAR_SHARED_CACHE_ADDRESSES"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store.do(t, root, append([]string{"ACL", "SETUSER", "fis"}, rules...)...)
			if tt.rules != nil {
				store.do(t, root, append([]string{"ACL", "SETUSER", "fis"}, tt.rules...)...)
			}
			output, err := w.run(tt.change, "check")
			if (err == nil) != tt.succeeds {
				t.Errorf("got %v, want success %v", err, tt.succeeds)
			}
			for _, want := range tt.want {
				if !strings.Contains(output, want) {
					t.Errorf("output lacks %q", want)
				}
			}
			if strings.Contains(output, password) || strings.Contains(output, "a-wrong-password") {
				t.Error("the password stands in the output, want it nowhere")
			}
			if t.Failed() {
				t.Log(output)
			}
			if keys := store.keys(t, root); len(keys) > 0 {
				t.Errorf("keys left behind: got %v, want none", keys)
			}
		})
	}
}
