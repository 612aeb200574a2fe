package autoscaler

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"ebb.dev/ebb/apis/serving"
	servingv1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
	"ebb.dev/ebb/autoscaler/backlog"
	"ebb.dev/ebb/autoscaler/intake"
)

// TestTranscripts runs the files of testdata: a revision with real settings, the real Scaler with its windows and its timers, and a world that makes
// and deletes pods as it is told. Each command prints what was done meanwhile, with the seconds since the begin. Commands:
//
//	config KEY=VALUE…      config-autoscaler, from now on
//	annotate KEY=VALUE…    autoscaling annotations, from now on ("-" takes one away)
//	revision replicas=N limit=N starting=D    the revision: its pods now, its container concurrency, how long a pod takes to start
//	run D load=N rate=N    time passes with N requests in flight and begun each second, told by a gateway
//	queue D load=N         the same, told by an activator
//	events waiting=N in-flight=N at-once=N    what is to be delivered now, and how many of it at once at most (100)
//	busy pod=N requests=N  a pod has long requests, which no window sees
//	leader                 another controller takes over; it knows nothing
//	missing …              nobody tells of the load any more; without a word they do again
//	deaf, hears            no gateway acknowledges, or they do
//	explain                why the pods are as many
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { transcript(t, file) })
		})
	}
}

func transcript(t *testing.T, file string) {
	var w *world
	store := settings.NewStore()
	get := FromStore(store)
	config, annotations := map[string]string{}, map[string]string{}
	rev := &servingv1.Revision{}
	renew := func() {
		if err := store.Update(settings.ConfigAutoscaler, config); err != nil {
			t.Fatal(err)
		}
		if w == nil {
			return
		}
		set, err := get(rev, annotations)
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.settings = set
		w.mu.Unlock()
		w.tell()
	}
	change := func(m map[string]string, prefix string, td *datadriven.TestData) {
		for _, a := range td.CmdArgs {
			if m[prefix+a.Key] = a.Vals[0]; a.Vals[0] == "-" {
				delete(m, prefix+a.Key)
			}
		}
		renew()
	}
	datadriven.RunTest(t, file, func(t *testing.T, td *datadriven.TestData) string {
		number := func(key string) int {
			for _, a := range td.CmdArgs {
				if a.Key == key {
					n, err := strconv.Atoi(a.Vals[0])
					if err != nil {
						td.Fatalf(t, "%v", err)
					}
					return n
				}
			}
			return 0
		}
		switch td.Cmd {
		case "config":
			change(config, "", td)
		case "annotate":
			change(annotations, serving.AutoscalingGroup+"/", td)
		case "revision":
			limit := int64(number("limit"))
			rev.Spec.ContainerConcurrency = &limit
			renew()
			set, err := get(rev, annotations)
			if err != nil {
				td.Fatalf(t, "%v", err)
			}
			starting := time.Duration(0)
			for _, a := range td.CmdArgs {
				if a.Key == "starting" {
					if starting, err = time.ParseDuration(a.Vals[0]); err != nil {
						td.Fatalf(t, "%v", err)
					}
				}
			}
			w = bareWorld(t, number("replicas"), starting, set)
			w.stamps = true
			time.Sleep(500 * time.Microsecond)
			w.lead()
		case "run", "queue":
			d, err := time.ParseDuration(td.CmdArgs[0].Key)
			if err != nil {
				td.Fatalf(t, "%v", err)
			}
			kind := intake.Gateway
			if td.Cmd == "queue" {
				kind = intake.Activator
			}
			w.course(kind, number("load"), number("rate"), d)
		case "events":
			b := backlog.Backlog{Waiting: float64(number("waiting")), InFlight: float64(number("in-flight"))}
			most := number("at-once")
			if most == 0 {
				most = 100
			}
			b.Demand = min(b.Waiting+b.InFlight, float64(most))
			w.tells(b)
		case "busy":
			w.on(number("pod"), number("requests"))
		case "leader":
			w.sighted = time.Now()
			w.lead()
			if b := w.backlog; b != (backlog.Backlog{}) {
				w.tells(b)
			}
		case "missing":
			if w.missing = strings.Join(words(td), " "); w.missing == "" {
				w.sighted = time.Now()
			}
			w.tell()
		case "deaf", "hears":
			w.mu.Lock()
			w.deaf = td.Cmd == "deaf"
			w.mu.Unlock()
		case "explain":
			return strings.Join(w.s.Explain("ns", "r"), "\n") + "\n"
		default:
			td.Fatalf(t, "unknown command %q", td.Cmd)
		}
		if w == nil {
			return ""
		}
		_, _, log := w.now()
		out := ""
		for _, line := range log {
			if !strings.Contains(line, "  cost ") && !strings.Contains(line, "  deleted ") { // the world checks these
				out += line + "\n"
			}
		}
		return out
	})
}

func words(td *datadriven.TestData) (out []string) {
	for _, a := range td.CmdArgs {
		out = append(out, a.Key)
	}
	return out
}

// A report comes each so often: never in the same instant as anything else is due, so that there is one course of things.
const reports = 101 * time.Millisecond

// course is load that stays as it is for d, told by a reporter of the kind.
func (w *world) course(kind intake.Kind, n, rate int, d time.Duration) {
	reporter, begun := [...]string{"g", "a"}[kind], 0.0
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(reports)
		begun += float64(rate) * reports.Seconds()
		issued := int(begun)
		begun -= float64(issued)
		if n == 0 && issued == 0 && !slices.Contains(w.loaded, reporter) {
			continue
		}
		w.loaded = slices.DeleteFunc(w.loaded, func(r string) bool { return r == reporter })
		if n > 0 || issued > 0 {
			w.loaded = append(w.loaded, reporter)
		}
		now := time.Now()
		w.s.Observe([]intake.Observation{{Cluster: cluster, Reporter: reporter, Kind: kind, From: now.Add(-reports), To: now,
			Concurrency: float64(n) * reports.Seconds(), InFlight: n, Issued: issued}})
	}
}

// tells is what the eventing part says.
func (w *world) tells(b backlog.Backlog) {
	w.backlog = b
	w.s.Backlog(cluster, b)
}

// stamped is a line of the log with the seconds since the begin.
func (w *world) stamped(format string, args ...any) string {
	return fmt.Sprintf("%7.2fs  ", time.Since(w.begun).Seconds()) + fmt.Sprintf(format, args...)
}
