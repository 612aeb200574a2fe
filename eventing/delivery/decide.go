package delivery

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ebb.dev/ebb/eventing/plan"
)

// Answer is what one attempt gave.
type Answer struct {
	Status     int           // of HTTP; 0: there was no answer
	Reply      Reply         // what is in the answer
	RetryAfter time.Duration // of the answer; 0: it does not say
}

// Reply is what an answer of 2xx has in it.
type Reply uint8

// What can be in an answer.
const (
	NoEvent  Reply = iota
	OneEvent       // a CloudEvent
	BadEvent       // it says that it is a CloudEvent, and is none
)

// Verdict is what is done with an event.
type Verdict uint8

// The verdicts.
const (
	Accept Verdict = iota // it is done
	Derive                // it is done when the event in the answer is stored
	Retry                 // it is tried again
	Dead                  // it becomes a dead letter
)

func (v Verdict) String() string {
	return [...]string{"accept", "derive", "retry", "dead"}[v]
}

// Decision is a verdict, and for Retry how long to wait.
type Decision struct {
	Verdict Verdict
	After   time.Duration
}

// The longest wait of an exponential back-off that did not begin with a longer one, and the part of
// a wait that jitter adds at most: waits never get shorter than they were asked for.
const (
	MaxBackoff = time.Hour
	MaxJitter  = 0.1
)

// Decide says what follows from an answer. attempt is the number of the one that gave it, from 1, and random a number in
// [0, 1) that the jitter is made of.
func Decide(d plan.Delivery, attempt int, a Answer, random float64) Decision {
	switch {
	case a.Accepted():
		switch {
		case a.Reply == BadEvent:
			return Decision{Verdict: Dead}
		case a.Reply == OneEvent && a.Status != http.StatusAccepted:
			return Decision{Verdict: Derive}
		}
		return Decision{Verdict: Accept}
	case !a.Retriable() || attempt > d.Retry:
		return Decision{Verdict: Dead}
	}
	return Decision{Verdict: Retry, After: Wait(d, attempt, a, random)}
}

// Accepted says that the subscriber has the event. What the answer has in it may still be wrong.
func (a Answer) Accepted() bool { return a.Status/100 == 2 }

// Retriable says whether another attempt may end better.
func (a Answer) Retriable() bool {
	switch a.Status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return a.Status < 100 || a.Status >= 500
}

// Busy says that the subscriber, or what is before it, has no room or no instance that answers. It says nothing about the event.
func (a Answer) Busy() bool {
	switch a.Status {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Wait is how long to wait after a failed attempt.
func Wait(d plan.Delivery, attempt int, a Answer, random float64) time.Duration {
	wait := Backoff(d, attempt)
	if after := Pause(d, a); after > wait {
		wait = after
	}
	return wait + time.Duration(MaxJitter*random*float64(wait))
}

// Backoff is the policy's wait after a failed attempt, from 1.
func Backoff(d plan.Delivery, attempt int) time.Duration {
	delay, n := float64(max(d.Delay, 0)), float64(max(attempt, 1))
	if d.Backoff == plan.Linear {
		return time.Duration(min(delay*n, math.MaxInt64/2))
	}
	// 2^1000 is a number still.
	return time.Duration(min(delay*math.Exp2(min(n-1, 1000)), max(delay, float64(MaxBackoff))))
}

// Pause is how long the subscriber asked not to be asked, 0 when it did not, or is not listened to.
func Pause(d plan.Delivery, a Answer) time.Duration {
	if a.Status != http.StatusTooManyRequests && a.Status != http.StatusServiceUnavailable {
		return 0
	}
	return min(a.RetryAfter, d.RetryAfterMax)
}

// RetryAfter reads the header of that name (RFC 9110, 10.2.3): seconds or a date. 0 is what cannot be read or is over.
func RetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}
