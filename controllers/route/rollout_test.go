package route

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"ebb.dev/ebb/apis/serving"
	v1 "ebb.dev/ebb/apis/serving/v1"
	"ebb.dev/ebb/apis/settings"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// model is a Route with what it refers to, as the reconciler has them.
type model struct {
	route    *v1.Route
	at       targets
	duration time.Duration
	next     time.Time
	message  string
}

func newModel() *model {
	return &model{route: &v1.Route{}, at: targets{map[string]*v1.Configuration{}, map[string]*v1.Revision{}}}
}

func (m *model) spec(lines []string) error {
	m.route.Spec.Traffic = nil
	for _, line := range lines {
		var t v1.TrafficTarget
		for _, word := range strings.Fields(line) {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "configuration":
				t.ConfigurationName, t.LatestRevision = value, new(true)
			case "revision":
				t.RevisionName = value
			case "tag":
				t.Tag = value
			case "percent":
				n, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					return err
				}
				t.Percent = &n
			}
		}
		m.route.Spec.Traffic = append(m.route.Spec.Traffic, t)
	}
	return nil
}

// latest makes a Revision ready and the latest one of its Configuration.
func (m *model) latest(configuration, revision string) {
	if m.at.revisions[revision] == nil {
		rev := &v1.Revision{}
		rev.Name, rev.Labels = revision, map[string]string{serving.ConfigurationLabel: configuration}
		m.at.revisions[revision] = rev
	}
	m.says(revision, corev1.ConditionTrue, "")
	c := &v1.Configuration{}
	c.Name, c.Status.LatestReadyRevisionName = configuration, revision
	m.at.configurations[configuration] = c
}

func (m *model) says(revision string, status corev1.ConditionStatus, message string) {
	m.at.revisions[revision].Status.Conditions = v1.Conditions{{Type: v1.ConditionReady, Status: status, Message: message}}
}

// step is what the reconciler does.
func (m *model) step(now time.Time) error {
	traffic, problem := assign(m.route, m.at)
	out := rolling{traffic: traffic, rollouts: held(m.route)}
	if problem == nil {
		out = roll(m.route, traffic, m.at, m.duration, now)
	} else {
		out.message = problem.Message
	}
	m.route.Status.Traffic, m.next, m.message = out.traffic, out.next, out.message
	return note(&m.route.Status, out.rollouts)
}

// restart leaves nothing but what the API server stores.
func (m *model) restart() error {
	text, err := json.Marshal(m.route)
	if err != nil {
		return err
	}
	m.route = &v1.Route{}
	return json.Unmarshal(text, m.route)
}

func (m *model) print() string {
	var out strings.Builder
	for _, t := range m.route.Status.Traffic {
		fmt.Fprintf(&out, "%3d%% %s", *t.Percent, t.RevisionName)
		if t.Tag != "" {
			fmt.Fprintf(&out, " tag=%s", t.Tag)
		}
		if *t.LatestRevision {
			out.WriteString(" latest")
		}
		out.WriteString("\n")
	}
	if !m.next.IsZero() {
		fmt.Fprintf(&out, "next %s\n", m.next.Sub(began).Round(time.Millisecond))
	}
	if m.message != "" {
		fmt.Fprintf(&out, "%s\n", m.message)
	}
	return out.String()
}

// TestRolloutTranscripts runs the files of testdata/rollout. Commands:
//
//	route duration=D           the targets, one a line: configuration=C or revision=R, percent=N, tag=T
//	duration D                 changes the duration alone
//	latest C R                 R is ready and the latest ready Revision of C
//	fail R, delete R           R is not ready any more; R is gone
//	restart                    the control plane forgets what is not stored
//	at T                       looks at the Route, T after the beginning, and prints its traffic
func TestRolloutTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/rollout", func(t *testing.T, path string) {
		m := newModel()
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			word := func(i int) string {
				if i >= len(td.CmdArgs) {
					td.Fatalf(t, "too few words")
				}
				return td.CmdArgs[i].Key
			}
			length := func(text string) time.Duration {
				d, err := time.ParseDuration(text)
				if err != nil {
					td.Fatalf(t, "%v", err)
				}
				return d
			}
			var err error
			switch td.Cmd {
			case "route":
				if len(td.CmdArgs) > 0 {
					m.duration = length(td.CmdArgs[0].Vals[0])
				}
				err = m.spec(strings.Split(td.Input, "\n"))
			case "duration":
				m.duration = length(word(0))
			case "latest":
				m.latest(word(0), word(1))
			case "fail":
				m.says(word(0), corev1.ConditionFalse, "the container exits")
			case "delete":
				delete(m.at.revisions, word(0))
			case "restart":
				err = m.restart()
			case "at":
				if err = m.step(began.Add(length(word(0)))); err == nil {
					return m.print()
				}
			default:
				td.Fatalf(t, "unknown command %q", td.Cmd)
			}
			if err != nil {
				td.Fatalf(t, "%v", err)
			}
			return ""
		})
	})
}

func sum(shares []share) (total int64) {
	for _, s := range shares {
		total += s.Percent
	}
	return total
}

// TestRolloutGoesAllTheWay: from any split, by any number of looks at any times, the new
// Revision's share never falls, all shares are the target's percent, no look is later
// than the one asked for to be at the end within the duration.
func TestRolloutGoesAllTheWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var from []share
		left := rapid.Int64Range(2, 100).Draw(t, "percent")
		percent := left
		for i := 0; left > 0; i++ {
			n := rapid.Int64Range(1, left).Draw(t, "share")
			from = append(from, share{fmt.Sprint("r", i), n})
			left -= n
		}
		to := rapid.SampledFrom([]string{"new", from[0].Revision}).Draw(t, "to")
		duration := time.Duration(rapid.Int64Range(1, 7200).Draw(t, "seconds")) * time.Second
		ro := begin(from, to, began)
		if ro.Percent != percent || to == "new" && ro.Share != 1 {
			t.Fatalf("begins as %+v", ro)
		}
		now, steps := began, 0
		next := began
		for !ro.done() {
			before := ro
			if rapid.Bool().Draw(t, "too early") && next.After(now) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(next.Sub(now))-1).Draw(t, "early")))
				if early, same := ro.at(now, duration, true); early.Share != ro.Share || !same.Equal(next) && steps > 0 {
					t.Fatalf("a look at %s changed %+v to %+v, next %s", now, ro, early, same)
				}
			}
			now = next
			ro, next = ro.at(now, duration, true)
			if got := sum(ro.shares()); got != percent {
				t.Fatalf("shares %v sum to %d, not %d", ro.shares(), got, percent)
			}
			if ro.Share < before.Share || steps > 0 && ro.Share == before.Share {
				t.Fatalf("from %d to %d", before.Share, ro.Share)
			}
			if ro.done() {
				break
			}
			if !next.After(now) || next.Sub(now) < minStep && next.Sub(now) < duration {
				t.Fatalf("next %s after %s", next, now)
			}
			if steps++; steps > 100 {
				t.Fatal("more than a hundred steps")
			}
		}
		if now.After(began.Add(duration)) {
			t.Errorf("ends %s after its duration of %s", now.Sub(began.Add(duration)), duration)
		}
		if late := began.Add(duration); now.Add(duration/50).Before(late) && percent > 50 && to == "new" && duration > 100*time.Second {
			t.Errorf("ends %s early", late.Sub(now))
		}
		if want := []share{{to, percent}}; !slices.Equal(ro.shares(), want) {
			t.Errorf("ends with %v", ro.shares())
		}
	})
}

// TestRolloutRestart: a control plane that forgets everything at any moment does the same
// as one that does not; whatever happens, a Route's percents sum to 100, and a Revision that fails gets no more.
func TestRolloutRestart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steady, restarted := newModel(), newModel()
		both := func(f func(m *model)) { f(steady); f(restarted) }
		n := rapid.IntRange(0, 98).Draw(t, "pinned")
		both(func(m *model) {
			m.duration = time.Duration(rapid.Just(60).Draw(t, "duration")) * time.Second
			m.latest("b", "b-1")
			m.latest("a", "a-1")
			if err := m.spec([]string{fmt.Sprintf("configuration=a percent=%d", 100-n), fmt.Sprintf("revision=b-1 percent=%d tag=x", n)}); err != nil {
				t.Fatal(err)
			}
		})
		now, made, failing := began, 1, false
		for range rapid.IntRange(5, 40).Draw(t, "events") {
			switch rapid.SampledFrom([]string{"look", "look", "look", "new", "fail", "heal", "duration", "percent"}).Draw(t, "event") {
			case "new":
				made++
				both(func(m *model) { m.latest("a", fmt.Sprint("a-", made)) })
				failing = false
			case "fail":
				both(func(m *model) { m.says(fmt.Sprint("a-", made), corev1.ConditionFalse, "no") })
				failing = true
			case "heal":
				both(func(m *model) { m.says(fmt.Sprint("a-", made), corev1.ConditionTrue, "") })
				failing = false
			case "duration":
				d := time.Duration(rapid.IntRange(1, 200).Draw(t, "duration")) * time.Second
				both(func(m *model) { m.duration = d })
			case "percent":
				n := rapid.IntRange(0, 98).Draw(t, "pinned")
				both(func(m *model) {
					*m.route.Spec.Traffic[0].Percent, *m.route.Spec.Traffic[1].Percent = int64(100-n), int64(n)
				})
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 9000).Draw(t, "ms")) * time.Millisecond)
			if rapid.Bool().Draw(t, "restart") {
				if err := restarted.restart(); err != nil {
					t.Fatal(err)
				}
			}
			share := func() (percent int64, of string) {
				for _, s := range steady.route.Status.Traffic {
					if s.RevisionName == fmt.Sprint("a-", made) {
						percent += *s.Percent
					}
				}
				return percent, fmt.Sprint("a-", made)
			}
			before, _ := share()
			whole := *steady.route.Spec.Traffic[0].Percent
			changed := len(steady.route.Status.Traffic) > 0 && wholeServed(steady) != whole
			both(func(m *model) {
				if err := m.step(now); err != nil {
					t.Fatal(err)
				}
			})
			if diff := cmp.Diff(steady.print(), restarted.print()); diff != "" {
				t.Fatalf("a restart changes it:\n%s", diff)
			}
			total := int64(0)
			for _, s := range steady.route.Status.Traffic {
				total += *s.Percent
			}
			if total != 100 {
				t.Fatalf("the percents sum to %d:\n%s", total, steady.print())
			}
			if after, name := share(); failing && !changed && made > 1 && after > max(before, 1) {
				t.Fatalf("%s fails and goes from %d%% to %d%%", name, before, after)
			}
		}
	})
}

// wholeServed is what the Revisions of Configuration a have together.
func wholeServed(m *model) (percent int64) {
	for _, s := range m.route.Status.Traffic {
		if strings.HasPrefix(s.RevisionName, "a-") {
			percent += *s.Percent
		}
	}
	return percent
}

func TestRolloutsThatMakeNoSense(t *testing.T) {
	for _, text := range []string{
		"", "{", "null", `[{"percent":100,"to":"a","begin":1,"share":1}]`,
		`[{"percent":100,"to":"a","begin":1,"share":101,"from":[{"revision":"b","percent":99}]}]`,
		`[{"percent":100,"to":"a","begin":150,"share":150,"from":[{"revision":"b","percent":-50}]}]`,
		`[{"percent":0,"to":"a"}]`,
	} {
		r := &v1.Route{}
		r.Status.Annotations = map[string]string{rolloutAnnotation: text}
		if got := rollouts(r); len(got) > 0 {
			t.Errorf("%s is read as %+v", text, got)
		}
	}
}

func FuzzRollouts(f *testing.F) {
	f.Add(`[{"configuration":"a","percent":100,"from":[{"revision":"a-1","percent":99}],"to":"a-2","begin":1,"share":1,"since":"2026-01-02T03:04:05Z"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		r := &v1.Route{}
		r.Status.Annotations = map[string]string{rolloutAnnotation: text}
		for _, ro := range rollouts(r) {
			ro, _ = ro.at(began, time.Minute, true)
			if got := sum(ro.shares()); got != ro.Percent {
				t.Errorf("shares %v sum to %d, not %d", ro.shares(), got, ro.Percent)
			}
		}
	})
}

func TestRolloutEvents(t *testing.T) {
	one := rollout{Configuration: "a", To: "a-2", Percent: 100, Begin: 1, Share: 1}
	more, paused, other, tagged := one, one, one, one
	more.Share, paused.Paused, other.To, tagged.Tag = 50, true, "a-3", "x"
	for _, tc := range []struct {
		name          string
		before, after []rollout
		want          string
	}{
		{"nothing", nil, nil, ""},
		{"begins", nil, []rollout{one}, "RolloutStarted"},
		{"a step", []rollout{one}, []rollout{more}, ""},
		{"superseded", []rollout{more}, []rollout{other}, "RolloutStarted"},
		{"paused", []rollout{one}, []rollout{paused}, "RolloutPaused"},
		{"still paused", []rollout{paused}, []rollout{paused}, ""},
		{"goes on", []rollout{paused}, []rollout{more}, "RolloutResumed"},
		{"ends", []rollout{more}, nil, "RolloutEnded"},
		{"one of two ends", []rollout{more, tagged}, []rollout{tagged}, "RolloutEnded"},
	} {
		var got []string
		for _, e := range rolloutEvents(tc.before, tc.after) {
			got = append(got, e.reason)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

func TestRolloutDuration(t *testing.T) {
	s, err := settings.Default().With(settings.ConfigNetwork, map[string]string{"rollout-duration": "90s"})
	if err != nil {
		t.Fatal(err)
	}
	for annotations, want := range map[[2]string]time.Duration{
		{}: 90 * time.Second,
		{serving.RolloutDurationAnnotation, "0s"}:       0,
		{serving.RolloutDurationAnnotation, "5m"}:       5 * time.Minute,
		{serving.RolloutDurationAnnotation, "soon"}:     90 * time.Second,
		{"serving.knative.dev/rolloutDuration", "7s"}:   7 * time.Second,
		{"serving.knative.dev/rollout-durations", "7s"}: 90 * time.Second,
	} {
		r := &v1.Route{}
		r.Annotations = map[string]string{annotations[0]: annotations[1]}
		if got := rolloutDuration(r, s); got != want {
			t.Errorf("%v: %s, want %s", annotations, got, want)
		}
	}
}
