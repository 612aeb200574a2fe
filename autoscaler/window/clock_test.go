package window

import (
	"math"
	"testing"
	"time"
	"unsafe"
)

// set is t as time.Now gives it after the machine's clock was set forth by the seconds given: the wall clock moved, the
// monotonic clock did not. Of a time with a monotonic reading the first word holds, from bit 30 to 62, the wall clock's seconds.
func set(t time.Time, seconds int64) time.Time {
	word := (*uint64)(unsafe.Pointer(&t))
	*word += uint64(seconds) << 30
	return t
}

// A clock that is set, forth or back, changes no average.
func TestClockSet(t *testing.T) {
	begin := time.Now()
	if moved := set(begin, 3600); moved.Unix() != begin.Unix()+3600 || moved.Sub(begin) != 0 {
		t.Fatalf("%v set forth by an hour is %v, %v later: the layout of time.Time is another one", begin, moved, moved.Sub(begin))
	}
	for name, jump := range map[string]int64{"an hour forth": 3600, "an hour back": -3600, "a second back": -1} {
		t.Run(name, func(t *testing.T) {
			for _, exponential := range []bool{false, true} {
				w := New(Shape{Stable: 6 * time.Second, Panic: time.Second, Exponential: exponential}, begin)
				const step = 100 * time.Millisecond
				for i := range 200 {
					now := begin.Add(time.Duration(i+1) * step)
					if i >= 100 {
						now = set(now, jump)
					}
					w.Add(now.Add(-step), now, 5*step.Seconds())
					if i < 10 {
						continue
					}
					if a := w.Averages(now); math.Abs(a.Stable-5) > 0.01 || math.Abs(a.Panic-5) > 0.01 {
						t.Fatalf("after %v, exponential %v: %+v, want 5", time.Duration(i+1)*step, exponential, a)
					}
					if next := w.NextChange(now).Sub(now); next <= 0 || next > time.Second {
						t.Fatalf("after %v the averages change next in %v", time.Duration(i+1)*step, next)
					}
				}
			}
		})
	}
}
