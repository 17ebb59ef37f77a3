// Command bench measures the sidecar beside other proxies that do the same job: CPU time
// per request, throughput, latency and memory. It writes Markdown. run.sh installs what
// it needs and runs it.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const usage = `usage: run.sh [flags]

Puts the sidecar, nginx, nginx with Lua and HAProxy with Lua, which do the same job, in
front of the same FHIR server and introspection endpoint, and loads them in turns. The
proxies have one core, the load and the servers another. Loopback only. Proxies that do
less are measured in the first case, to compare.

`

// options are the flags.
type options struct {
	run      string
	seconds  int
	rounds   int
	tokens   int
	sidecars []string
	smoke    bool
	list     bool
	skip     string
	fill     int
	write    string
	profile  string
}

func main() {
	commands := map[string]func([]string) error{"serve": serve, "plain": plain}
	var err error
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		err = commands[os.Args[1]](os.Args[2:])
	} else {
		err = bench(os.Args[1:])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.run, "run", "", "measure only the `cases` whose name matches this regular expression; \"memory\" is one")
	flags.StringVar(&o.skip, "skip", "", "leave out the `cases` whose name matches this")
	flags.IntVar(&o.seconds, "seconds", 2, "length of one measurement")
	flags.IntVar(&o.rounds, "rounds", 5, "measurements of each proxy in each case")
	flags.IntVar(&o.tokens, "tokens", 100, "different tokens in use")
	flags.Func("sidecar", "sidecar to measure, a `file`; again for another build, which is measured in the same rounds.\nMay be a script that sets variables and execs. (default bin/fhir-introspection-sidecar)", func(file string) error {
		file, err := filepath.Abs(file)
		o.sidecars = append(o.sidecars, file)
		return err
	})
	flags.BoolVar(&o.smoke, "smoke", false, "measure nothing: prove that each proxy serves each case")
	flags.BoolVar(&o.list, "list", false, "print the names of the cases")
	flags.IntVar(&o.fill, "fill", 1_000_000, "tokens to cache for the memory measurement")
	flags.StringVar(&o.write, "write", "", "put the report between the marks of this `file` too")
	flags.StringVar(&o.profile, "profile", "", "measure nothing: write a CPU profile of the sidecar under the first case that\n-run names to this `file`, built from source with a profiler added")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.seconds < 1 || o.rounds < 1 || o.tokens < 1 || o.fill < 1000 {
		return o, errors.New("wrong flags; see -h")
	}
	if o.write != "" {
		o.write, err = filepath.Abs(o.write)
	}
	return o, err
}

// chosen returns the cases to run, and whether memory is one of them.
func (o options) chosen() (all []testCase, memory bool, err error) {
	pattern, err := regexp.Compile("(?i)" + o.run)
	if err != nil {
		return nil, false, err
	}
	skip, err := regexp.Compile("(?i)" + cmp.Or(o.skip, "^$"))
	if err != nil {
		return nil, false, err
	}
	wanted := func(name string) bool { return pattern.MatchString(name) && !skip.MatchString(name) }
	for _, c := range cases() {
		if wanted(c.name) {
			all = append(all, c)
		}
	}
	memory = wanted("memory")
	if len(all) == 0 && !memory {
		return nil, false, fmt.Errorf("no case matches %q", o.run)
	}
	return all, memory, nil
}

func bench(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	all, memory, err := o.chosen()
	if err != nil {
		return err
	}
	if o.list {
		for _, c := range all {
			fmt.Println(c.name)
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := o.build(dir); err != nil {
		return err
	}
	w := &world{dir: dir, ports: make(map[int]bool)}
	defer w.stop()
	if err := w.begin(); err != nil {
		return err
	}
	proxies, err := w.proxies(o.sidecars)
	if err != nil {
		return err
	}
	b := run{options: o, world: w, proxies: proxies, load: load{world: w, seconds: o.seconds, tokens: o.tokens, fresh: 1000}, warmed: make(map[string]bool)}
	if o.profile != "" {
		return b.writeProfile(all)
	}
	return b.all(all, memory)
}

// begin prepares what all proxies need.
func (w *world) begin() (err error) {
	if w.loadCore, w.proxyCore, err = cores(); err != nil {
		return err
	}
	if err := fixtures(w.dir); err != nil {
		return err
	}
	script, err := confs.ReadFile("conf/wrk.lua")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "wrk.lua"), script, 0o600); err != nil {
		return err
	}
	return w.servers()
}

// build makes sure that there is a sidecar to measure.
func (o *options) build(dir string) error {
	if o.profile != "" {
		file, err := buildProfiled(dir)
		o.sidecars = []string{file}
		return err
	}
	if len(o.sidecars) == 0 {
		root, err := repository()
		if err != nil {
			return err
		}
		o.sidecars = []string{filepath.Join(root, "bin", "fhir-introspection-sidecar")}
	}
	for _, file := range o.sidecars {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%w; make build makes it", err)
		}
	}
	return nil
}

// repository returns the root of the source tree: run.sh runs the bench in its own folder.
func repository() (string, error) {
	dir, err := os.Getwd()
	return strings.TrimSuffix(dir, "/deploy/bench"), err
}
