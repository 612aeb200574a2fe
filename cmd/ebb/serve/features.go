package serve

import clientfeatures "k8s.io/client-go/features"

// quickLists turns streamed lists off: their end is told by a bookmark that the
// kube-apiserver sends once a second, so every start and every change of leader would be a
// second late (measured: 1.1 s against 0.1 s from the first request until gateways are served).
type quickLists struct{ clientfeatures.Gates }

func (q quickLists) Enabled(f clientfeatures.Feature) bool {
	return f != clientfeatures.WatchListClient && q.Gates.Enabled(f)
}

func useQuickLists() { clientfeatures.ReplaceFeatureGates(quickLists{clientfeatures.FeatureGates()}) }
