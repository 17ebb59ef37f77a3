package app

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// hangups returns where SIGHUP arrives. Until it is called, the signal would end the
// process.
func hangups() chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals
}

// awaitHangups opens the audit file again whenever it is told to: that is how those who
// rotate it say that they have. Everything else that may change is looked at anyway.
func (sc *sidecar) awaitHangups(ctx context.Context, hangups chan os.Signal) error {
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			if sc.audit != nil {
				sc.audit.Reopen()
			}
		}
	}
}
