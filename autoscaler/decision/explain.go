package decision

import (
	"fmt"
	"time"
)

// Explain tells in a few sentences why the Decision is what it is, the first one being the windows.
func (d Decision) Explain() []string {
	in := d.Input
	unit := "requests in flight"
	switch in.Metric {
	case "rps":
		unit = "requests/s"
	case "ebb.dev/backlog":
		unit = "events waiting or in flight"
	}
	target := in.PerPod()
	out := []string{fmt.Sprintf("%.2f %s over the stable window (%v), %.2f over the panic window; %.4g a pod: %d pods, in panic %d",
		in.Stable, unit, in.StableWindow, in.Panic, target, d.StableWish, d.PanicWish)}
	say := func(r Rule, format string, args ...any) {
		if d.Rules&r != 0 {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	if b := in.Backlog; b.Events > 0 || d.Rules&RuleBacklog != 0 {
		out = append(out, d.explainEvents(b, unit))
	}
	say(RuleUpRate, "max-scale-up-rate %.4g allows no more from %d ready", in.MaxScaleUpRate, in.Ready)
	say(RuleDownRate, "max-scale-down-rate %.4g allows no fewer from %d ready", in.MaxScaleDownRate, in.Ready)
	say(RulePanic, "panic: pods never fall until a whole stable window after the last time the threshold (%.4g) was passed", in.PanicThreshold)
	say(RuleSurge, "%.2f %s have held through the last tenths of a second: their pods are wished for before the windows fill", in.Surge, unit)
	say(RuleActivation, "activation-scale %d", in.ActivationScale)
	say(RuleDelay, "scale-down-delay %v: the highest wish of that time holds", in.ScaleDownDelay)
	say(RuleInFlight, "%d requests are waiting or in flight", in.InFlight)
	say(RuleEvents, "a pod is there while events are to be delivered")
	say(RuleMissing, "not shrinking: %s", in.Missing)
	say(RuleInitial, "initial-scale %d was not ready yet", in.InitialScale)
	say(RuleTick, "a wish falls once in %v at most", tick)
	say(RuleNoZero, "enable-scale-to-zero is false")
	if d.Rules&RuleRetention != 0 {
		say(RuleRetention, "scale-to-zero-pod-retention-period %v", in.Retention)
	} else {
		say(RuleStayActive, "the last pod stays for a stable window without load")
	}
	say(RuleMin, "min-scale %d", in.MinScale)
	say(RuleMax, "max-scale %d", in.MaxScale)
	say(RuleZero, "no load for a whole stable window: to zero")
	if !d.Next.IsZero() {
		out = append(out, fmt.Sprintf("decided again in %v at the latest", d.Next.Sub(in.Now).Round(time.Millisecond)))
	}
	return out
}

// explainEvents says what the backlog asks for.
func (d *Decision) explainEvents(b Backlog, unit string) string {
	text := fmt.Sprintf("%d events wait or are in flight", b.Events)
	switch {
	case d.Input.waking():
		text += ": they ask for no more than the first pods until one serves"
	case d.Rules&RuleBacklog != 0:
		text += fmt.Sprintf(": they count as %.4g %s now, %.2f over the stable window, %.2f over the panic window", b.Load, unit, b.Stable, b.Panic)
	default:
		text += ": no more than the requests ask for"
	}
	return text
}
