package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "ebb.dev/ebb/apis/serving/v1"
)

// splits measures, with so many services in all, the time from sending the change of a split
// (all traffic from one warm revision to the other) to the last answer of the old one, under requests all the time.
func (b *bench) splits(ctx context.Context, n, services int) error {
	if err := b.fill(ctx, services); err != nil {
		return err
	}
	name := fmt.Sprintf("split-%d", services)
	warm := map[string]string{"autoscaling.knative.dev/min-scale": "1"}
	if err := b.service(ctx, name, warm, map[string]string{"TARGET": "one"}); err != nil {
		return err
	}
	var s v1.Service
	if err := b.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, &s); err != nil {
		return err
	}
	s.Spec.Template.Spec.Containers[0].Env[0].Value = "two"
	// Both revisions stay warm only while both are routed: give the other one a tag.
	if err := b.Update(ctx, &s); err != nil {
		return err
	}
	if err := b.ready(ctx, name); err != nil {
		return err
	}
	revisions := []string{name + "-00001", name + "-00002"}
	if err := b.route(ctx, name, revisions[0], revisions[1]); err != nil {
		return err
	}
	if err := b.ready(ctx, name); err != nil {
		return err
	}
	var last, status []float64
	failed := 0
	for i := range n {
		from, to := revisions[i%2], revisions[1-i%2]
		began, old, lost, err := b.switchOnce(ctx, name, from, to)
		if err != nil {
			return err
		}
		failed += lost
		if err := b.ready(ctx, name); err != nil {
			return err
		}
		status = append(status, milliseconds(time.Since(began)))
		last = append(last, milliseconds(old))
	}
	b.add(fmt.Sprintf("split change to last old answer, %d services", services), "ms", last...)
	b.add(fmt.Sprintf("split change to Ready again, %d services", services), "ms", status...)
	b.add(fmt.Sprintf("split change, failed requests, %d services", services), "requests", float64(failed))
	return nil
}

// route gives all traffic to one revision and keeps the other one warm under a tag.
func (b *bench) route(ctx context.Context, name, to, other string) error {
	patch := fmt.Sprintf(`{"spec":{"traffic":[{"revisionName":%q,"percent":100,"latestRevision":false},{"revisionName":%q,"percent":0,"tag":"other","latestRevision":false}]}}`, to, other)
	s := &v1.Service{}
	s.Namespace, s.Name = "default", name
	return b.Patch(ctx, s, client.RawPatch("application/merge-patch+json", []byte(patch)))
}

// switchOnce calls in four loops, changes the split, and returns when the change was sent and how
// long after that the last answer of the old revision came.
func (b *bench) switchOnce(ctx context.Context, name, from, to string) (began time.Time, old time.Duration, failed int, err error) {
	var lastOld, streak, lost atomic.Int64
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	begin := make(chan struct{})
	for range 4 {
		g.Go(func() error {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			c := &http.Client{Transport: transport}
			for gctx.Err() == nil {
				request, err := http.NewRequestWithContext(gctx, http.MethodGet, "http://"+b.running.Gateway+"/", nil)
				if err != nil {
					return err
				}
				request.Host = name + ".default.localhost"
				sent := time.Now()
				response, err := c.Do(request)
				if err != nil {
					if gctx.Err() == nil {
						lost.Add(1)
					}
					continue
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != http.StatusOK {
					if gctx.Err() == nil {
						lost.Add(1)
					}
					continue
				}
				if response.Header.Get("K-Revision") == from {
					lastOld.Store(max(lastOld.Load(), sent.UnixNano()))
					streak.Store(0)
				} else {
					streak.Add(1)
				}
				select {
				case <-begin:
				case <-time.After(time.Millisecond):
				}
			}
			return nil
		})
	}
	time.Sleep(50 * time.Millisecond) // a pause between samples
	began = time.Now()
	if err := b.route(ctx, name, to, from); err != nil {
		return began, 0, 0, err
	}
	err = until(ctx, "the new revision answers", func() (bool, error) { return streak.Load() > 200, nil })
	cancel()
	_ = g.Wait()
	return began, max(0, time.Unix(0, lastOld.Load()).Sub(began)), int(lost.Load()), err
}

// fill makes idle services, never started, until there are so many in all.
func (b *bench) fill(ctx context.Context, services int) error {
	var have v1.ServiceList
	if err := b.List(ctx, &have, client.InNamespace("default")); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	began := time.Now()
	for i := len(have.Items); i < services; i++ {
		g.Go(func() error {
			return b.service(gctx, fmt.Sprintf("idle-%d", i), map[string]string{"autoscaling.knative.dev/initial-scale": "0"}, nil)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if made := services - len(have.Items); made > 0 {
		b.add(fmt.Sprintf("creating %d services at zero until Ready, each", made), "ms", milliseconds(time.Since(began))/float64(made))
	}
	return nil
}
