package natsserver

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	lookAtStreams = 3 * time.Second
	// room is what has to fit on the disk before a server with a failed stream starts anew: until then it would fail again.
	room = 4 << 20
)

// failed is a stream that stores nothing any more. A write that failed, because the disk was full or broken, is kept by the
// stream as its answer to every event from then on, also when there is room again.
func (s *Server) failed() error {
	health := s.s.Healthz(&server.HealthzOptions{Details: true})
	for _, e := range health.Errors {
		if e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}

// writes is an error when the folder has no room.
func writes(folder string) error {
	f, err := os.CreateTemp(folder, ".room-*")
	if err != nil {
		return err
	}
	block := make([]byte, 64<<10)
	for n := 0; n < room && err == nil; n += len(block) {
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// look keeps what is wrong with the streams, and says whether only a new start can help, and does.
func (s *Server) look() (again error) {
	err := s.failed()
	if err == nil {
		s.broken.Store(nil)
		return nil
	}
	if full := writes(s.folder); full != nil {
		err = fmt.Errorf("the NATS server cannot store events: %w", full)
		s.broken.Store(&err)
		return nil
	}
	err = fmt.Errorf("the NATS server has to be started anew, its disk was full or failed: %w", err)
	s.broken.Store(&err)
	return err
}
