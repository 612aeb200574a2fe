package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Source says what there is to measure.
type Source interface {
	// Pods are those that run here.
	Pods() []Pod
	// Node is the object of this node.
	Node(context.Context) (*v1.Node, error)
}

type server struct {
	Source
	meter *Meter
}

// Handler answers metrics.k8s.io/v1beta1: nodes and pods, each one or all of them.
func Handler(s Source, m *Meter) http.Handler {
	h := &server{s, m}
	const base = "/apis/metrics.k8s.io/v1beta1"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+base, func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, resources()) })
	for path, list := range map[string]func(*http.Request, selection) (any, error){
		"/nodes": h.nodes, "/nodes/{name}": h.nodes,
		"/pods": h.pods, "/namespaces/{namespace}/pods": h.pods, "/namespaces/{namespace}/pods/{name}": h.pods,
	} {
		mux.HandleFunc("GET "+base+path, func(w http.ResponseWriter, q *http.Request) {
			s, err := selected(q)
			var answer any
			if err == nil {
				answer, err = list(q, s)
			}
			if err != nil {
				fail(w, err)
				return
			}
			write(w, http.StatusOK, answer)
		})
	}
	// The API server asks for them again and again, and says so in its log, when they are not there.
	mux.HandleFunc("GET /openapi/v2", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{"swagger": "2.0", "info": map[string]string{"title": "metrics.k8s.io", "version": "v1beta1"}, "paths": map[string]any{}})
	})
	mux.HandleFunc("GET /openapi/v3", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]any{"paths": map[string]any{}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		fail(w, apierrors.NewGenericServerResponse(http.StatusNotFound, q.Method, metrics.Resource(""), "", q.URL.Path+" is not served", 0, false))
	})
	return mux
}

func resources() *metav1.APIResourceList {
	return &metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: metrics.SchemeGroupVersion.String(),
		APIResources: []metav1.APIResource{ // without singular names clients take the kinds': `kubectl get podmetrics`
			{Name: "nodes", Kind: "NodeMetrics", Verbs: metav1.Verbs{"get", "list"}},
			{Name: "pods", Kind: "PodMetrics", Namespaced: true, Verbs: metav1.Verbs{"get", "list"}},
		},
	}
}

// selection is what of a list is asked for.
type selection struct {
	labels labels.Selector
	fields fields.Selector
}

func selected(q *http.Request) (s selection, err error) {
	v := q.URL.Query()
	if w := v.Get("watch"); w == "true" || w == "1" {
		return s, apierrors.NewMethodNotSupported(metrics.Resource(""), "watch")
	}
	if s.labels, err = labels.Parse(v.Get("labelSelector")); err != nil {
		return s, apierrors.NewBadRequest("labelSelector: " + err.Error())
	}
	if s.fields, err = fields.ParseSelector(v.Get("fieldSelector")); err != nil {
		return s, apierrors.NewBadRequest("fieldSelector: " + err.Error())
	}
	for _, r := range s.fields.Requirements() {
		if r.Field != "metadata.name" && r.Field != "metadata.namespace" {
			return s, apierrors.NewBadRequest("fieldSelector: " + r.Field + " is not known: use metadata.name or metadata.namespace")
		}
	}
	return s, nil
}

func (s selection) takes(namespace, name string, l map[string]string) bool {
	return s.labels.Matches(labels.Set(l)) && s.fields.Matches(fields.Set{"metadata.name": name, "metadata.namespace": namespace})
}

func (h *server) nodes(q *http.Request, s selection) (any, error) {
	node, err := h.Node(q.Context())
	if err != nil {
		return nil, err
	}
	name := q.PathValue("name")
	if name != "" && name != node.Name {
		return nil, apierrors.NewNotFound(metrics.Resource("nodes"), name)
	}
	list := metrics.NodeMetricsList{TypeMeta: kind("NodeMetricsList"), Items: []metrics.NodeMetrics{}}
	if name == "" && !s.takes("", node.Name, node.Labels) {
		return list, nil
	}
	m, err := h.meter.Measure(q.Context(), h.Pods())
	if err != nil {
		return nil, err
	}
	item := metrics.NodeMetrics{
		TypeMeta: kind("NodeMetrics"), ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, CreationTimestamp: metav1.NewTime(m.At)},
		Timestamp: metav1.NewTime(m.At), Window: metav1.Duration{Duration: m.Node.Window}, Usage: quantities(m.Node),
	}
	if name != "" {
		return item, nil
	}
	list.Items = append(list.Items, item)
	return list, nil
}

func (h *server) pods(q *http.Request, s selection) (any, error) {
	namespace, name := q.PathValue("namespace"), q.PathValue("name")
	all := h.Pods()
	m, err := h.meter.Measure(q.Context(), all)
	if err != nil {
		return nil, err
	}
	list := metrics.PodMetricsList{TypeMeta: kind("PodMetricsList"), Items: []metrics.PodMetrics{}}
	for _, p := range all {
		if namespace != "" && p.Namespace != namespace || name != "" && p.Name != name || !s.takes(p.Namespace, p.Name, p.Labels) {
			continue
		}
		if item, ok := podMetrics(p, m); ok {
			list.Items = append(list.Items, item)
		}
	}
	if name == "" {
		slices.SortFunc(list.Items, func(a, b metrics.PodMetrics) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		return list, nil
	}
	if len(list.Items) == 0 {
		return nil, apierrors.NewNotFound(metrics.Resource("pods"), namespace+"/"+name)
	}
	return list.Items[0], nil
}

// podMetrics is of a pod all of whose running containers are measured: half of it would look
// like a pod that needs little.
func podMetrics(p Pod, m Measurement) (metrics.PodMetrics, bool) {
	item := metrics.PodMetrics{
		TypeMeta: kind("PodMetrics"), ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, CreationTimestamp: metav1.NewTime(m.At)},
		Timestamp: metav1.NewTime(m.At),
	}
	for _, c := range p.Containers {
		u, ok := m.Runs[c.Run]
		if !ok {
			return item, false
		}
		if w := &item.Window.Duration; *w == 0 || u.Window < *w {
			*w = u.Window
		}
		item.Containers = append(item.Containers, metrics.ContainerMetrics{Name: c.Name, Usage: quantities(u)})
	}
	return item, len(item.Containers) > 0
}

func quantities(u Usage) v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:    *resource.NewScaledQuantity(int64(u.CPU*float64(time.Second)), resource.Nano),
		v1.ResourceMemory: *resource.NewQuantity(u.Memory, resource.BinarySI),
	}
}

func kind(name string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: name, APIVersion: metrics.SchemeGroupVersion.String()}
}

func write(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // who asked may have gone
}

// fail answers an error as Kubernetes does.
func fail(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	write(w, int(s.Code), s)
}
