package metrics

import (
	"context"
	"time"
)

// Pod is one that runs.
type Pod struct {
	Namespace, Name string
	Labels          map[string]string
	Containers      []Container // those that run
}

// Container is one run of a container.
type Container struct {
	Name    string
	Run     string // names the run: another one after a restart
	Started time.Time
	Shim    int               // the process above all of the container's
	Groups  map[string]string // its control groups by controller; nil when it has none
}

const (
	// fresh is how long a measurement is given to whoever asks, and so the shortest window
	// while somebody does.
	fresh = 5 * time.Second
	// useful is how old a reading may be to begin a window: an average over longer says
	// little about now.
	useful = time.Minute
	// shortest is the window that the first to ask waits for.
	shortest = time.Second
)

// Usage is a rate of CPU over a window, and the memory at its end.
type Usage struct {
	CPU    float64 // of one CPU: 0.5 is half of one
	Memory int64   // bytes
	Window time.Duration
}

// Measurement is what is used at a moment.
type Measurement struct {
	At   time.Time
	Node Usage
	Runs map[string]Usage // by Container.Run
}

// Meter measures for whoever asks. Its methods may be called from several goroutines.
type Meter struct {
	read func([]Pod) (sample, error)

	turn chan struct{} // holds a token: who has it may use what is below
	last sample
	now  Measurement
}

// NewMeter makes one that has read nothing yet.
func NewMeter() *Meter {
	m := &Meter{read: read, turn: make(chan struct{}, 1)}
	m.turn <- struct{}{}
	return m
}

// Measure gives what the pods use now, or used less than five seconds ago. Who asks first in
// a minute waits a second for the two readings that a rate needs.
func (m *Meter) Measure(ctx context.Context, pods []Pod) (Measurement, error) {
	select {
	case <-m.turn:
		defer func() { m.turn <- struct{}{} }()
	case <-ctx.Done():
		return Measurement{}, ctx.Err()
	}
	if time.Since(m.now.At) < fresh {
		return m.now, nil
	}
	if time.Since(m.last.at) > useful {
		first, err := m.read(pods)
		if err != nil {
			return Measurement{}, err
		}
		m.last = first
		wait := time.NewTimer(shortest)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return Measurement{}, ctx.Err()
		}
	}
	next, err := m.read(pods)
	if err != nil {
		return Measurement{}, err
	}
	if next.at.Sub(m.last.at) < shortest {
		return m.now, nil
	}
	m.now, m.last = measure(m.last, next, pods), next
	return m.now, nil
}

// measure makes rates of two samples. A run that began between the two is measured from its
// beginning, once it is long enough ago.
func measure(before, after sample, pods []Pod) Measurement {
	m := Measurement{At: after.at, Runs: map[string]Usage{}}
	m.Node = usage(before.node, after.node, after.at.Sub(before.at))
	for _, p := range pods {
		for _, c := range p.Containers {
			now, ok := after.runs[c.Run]
			if !ok {
				continue
			}
			from, window := before.runs[c.Run], after.at.Sub(before.at)
			if _, ok := before.runs[c.Run]; !ok {
				window = after.at.Sub(c.Started)
			}
			if window >= shortest {
				m.Runs[c.Run] = usage(from, now, window)
			}
		}
	}
	return m
}

func usage(before, after Reading, window time.Duration) Usage {
	used := max(after.CPU-before.CPU, 0) // what a process that nobody waited for has used is lost
	return Usage{CPU: float64(used) / float64(window), Memory: after.Memory, Window: window}
}
