package activator_test

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"ebb.dev/ebb/activator"
)

func ExampleRun() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	stop() // here, so that the example ends: a process waits for the signal

	err := activator.Run(ctx, activator.Options{
		Name:           "activator-0",
		Listen:         "127.0.0.1:0",
		DrainListen:    "127.0.0.1:0",
		HealthListen:   "127.0.0.1:0",
		ControlAddress: "127.0.0.1:18000",
		Logger:         slog.New(slog.DiscardHandler),
	})
	fmt.Println(err)
	// Output: <nil>
}
