// Command workloads is what the cluster test runs beside the sidecar: an
// authorization server, a client that checks what it gets, and the pause of a pod.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var commands = map[string]func(args []string) error{
	"authority":  authority,
	"get":        get,
	"load":       load,
	"purge":      purge,
	"dial":       dial,
	"neighbours": neighbours,
	"pause":      pause,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: workloads authority|get|load|purge|dial|neighbours|pause ...")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pause holds a pod's namespaces until it is told to end, and reaps what was left
// to it.
func pause([]string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return nil
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}
