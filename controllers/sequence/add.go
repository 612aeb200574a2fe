package sequence

import (
	ctrl "sigs.k8s.io/controller-runtime"

	flowsv1 "ebb.dev/ebb/apis/flows/v1"
	"ebb.dev/ebb/controllers/flow"
)

// Add puts the controller into mgr. It does not block.
func Add(mgr ctrl.Manager) error {
	return flow.Add(mgr, flow.Kind[*flowsv1.Sequence]{
		Name: "sequence", Empty: func() *flowsv1.Sequence { return &flowsv1.Sequence{} }, Parts: parts, Status: status,
	})
}
