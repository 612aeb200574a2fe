package eventfaults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// receiver takes events: "PRODUCER-NUMBER" is an event's id.
func receiver(took func(producer, number int) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var producer, number int
		if _, err := fmt.Sscanf(r.Header.Get("Ce-Id"), "%d-%d", &producer, &number); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if err := took(producer, number); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
}

// subscribe is the subscriber that is killed: what it has answered is in the file before.
func subscribe(address, file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	server := http.Server{Addr: address, ReadHeaderTimeout: time.Minute, Handler: receiver(func(producer, number int) error {
		_, err := fmt.Fprintf(f, "%d-%d\n", producer, number)
		return err
	})}
	return server.ListenAndServe()
}

// follow reads what the subscriber that is killed has taken, until ctx ends.
func follow(ctx context.Context, file string, into *tally) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	in, line := bufio.NewReader(f), ""
	for {
		more, err := in.ReadString('\n')
		line += more
		if err != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				continue
			}
		}
		var producer, number int
		if _, err := fmt.Sscanf(line, "%d-%d\n", &producer, &number); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		line = ""
		_ = into.took(producer, number)
	}
}

// tally is what came to one Trigger.
type tally struct {
	mu       sync.Mutex
	count    [producers][]uint8 // deliveries, by producer and number
	high     [producers]int     // the highest number that came
	all, one int                // deliveries, events
	ordered  bool
	wrong    int    // came for the first time before one that is before it
	example  string // of that
	back     int    // the longest way that a replay went back
}

func newTally(ordered bool) *tally {
	c := &tally{ordered: ordered}
	for k := range c.high {
		c.high[k] = -1
	}
	return c
}

func (c *tally) took(producer, number int) error {
	if producer < 0 || producer >= producers || number < 0 {
		return fmt.Errorf("event %d-%d was never sent", producer, number)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := &c.count[producer]
	for len(*seen) <= number {
		*seen = append(*seen, make([]uint8, 1024)...)
	}
	c.all++
	if (*seen)[number] == 0 {
		c.one++
		if c.ordered && number != c.high[producer]+1 {
			c.wrong++
			c.example = fmt.Sprintf("event %d-%d came for the first time when %d-%d was the latest", producer, number, producer, c.high[producer])
		}
	} else {
		c.back = max(c.back, c.high[producer]-number)
	}
	if (*seen)[number] < 255 {
		(*seen)[number]++
	}
	c.high[producer] = max(c.high[producer], number)
	return nil
}

// missing are those of the events before these numbers that did not come.
func (c *tally) missing(acknowledged [producers]int) (n int, example string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, most := range acknowledged {
		for i := range most {
			if i >= len(c.count[k]) || c.count[k][i] == 0 {
				n++
				if example == "" {
					example = fmt.Sprintf("%d-%d", k, i)
				}
			}
		}
	}
	return n, example
}

// past says whether of each producer one came that is beyond these numbers.
func (c *tally) past(numbers [producers]int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range numbers {
		if c.high[k] <= n {
			return fmt.Errorf("of producer %d the latest that came is %d, and not beyond %d", k, c.high[k], n)
		}
	}
	return nil
}

func (c *tally) totals() (all, one int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all, c.one
}
