package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs on one core until the bench ends.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start runs a command on a core, with more environment. Its output goes to a log.
func start(core, log string, env []string, command ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command("taskset", append([]string{"-c", core}, command...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	// The bench may be killed: nothing of it must stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, log, make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.done
}

// listens waits until something listens at an address.
func (p *process) listens(address string) error {
	for range 400 {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return p.silent(address)
		case <-time.After(25 * time.Millisecond):
		}
	}
	return p.silent(address)
}

func (p *process) silent(address string) error {
	said, _ := os.ReadFile(p.log)
	return fmt.Errorf("nothing listens on %s: %s\n%s", address, strings.Join(p.cmd.Args, " "), said)
}

// all returns the process and its children: nginx's master and worker.
func (p *process) all() []string {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	children, _ := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	return append([]string{pid}, strings.Fields(string(children))...)
}

// cpu returns the user and system time of a process and its children so far.
func (p *process) cpu() (time.Duration, error) {
	var ticks int64
	for _, pid := range p.all() {
		stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, i := range []int{11, 12} { // utime and stime; see proc(5)
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				return 0, err
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil // USER_HZ is 100
}

// rss returns the resident memory of a process and its children in KiB.
func (p *process) rss() (kib int64, err error) {
	for _, pid := range p.all() {
		status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err != nil {
			return 0, err
		}
		_, line, ok := strings.Cut(string(status), "\nVmRSS:")
		if !ok {
			return 0, errors.New("no VmRSS in /proc")
		}
		n, err := strconv.ParseInt(strings.Fields(line)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		kib += n
	}
	return kib, nil
}

// cores returns the one for the load and the servers, and that of the proxies.
func cores() (load, proxy string, err error) {
	out, err := exec.Command("taskset", "-cp", strconv.Itoa(os.Getpid())).Output()
	if err != nil {
		return "", "", err
	}
	var all []string
	list := strings.TrimSpace(string(out[strings.LastIndexByte(string(out), ':')+1:]))
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		all = append(all, from)
		if first, err := strconv.Atoi(from); err == nil && isRange && from != to {
			all = append(all, strconv.Itoa(first+1))
		}
	}
	if len(all) < 2 {
		return "", "", errors.New("needs two cores")
	}
	return all[0], all[1], nil
}

// freePort returns a port that is not handed out to outgoing connections.
func freePort(taken map[int]bool) (int, error) {
	for port := 20100; port < 32000; port++ {
		if taken[port] {
			continue
		}
		taken[port] = true
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port")
}
