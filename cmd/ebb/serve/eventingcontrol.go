package serve

import (
	"fmt"
	"log/slog"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"ebb.dev/ebb/eventing/backlog"
	"ebb.dev/ebb/proxy/link"
	"ebb.dev/ebb/trust"
)

// teller tells the control plane of backlogs; nil where none is named. hangUp ends its connection.
func (o *eventingOptions) teller(log *slog.Logger) (t *backlog.Teller, hangUp func(), err error) {
	if o.control == "" {
		return nil, func() {}, nil
	}
	own, err := o.controlTLS.source(log)
	if err != nil {
		return nil, nil, err
	}
	creds := insecure.NewCredentials()
	if own != nil {
		creds = credentials.NewTLS(trust.Client(own, trust.Controller))
	}
	conn, err := link.Dial(o.control, creds)
	if err != nil {
		return nil, nil, fmt.Errorf("--control %s: %w", o.control, err)
	}
	return backlog.New(conn, log.With("part", "backlog")), func() { _ = conn.Close() }, nil
}
