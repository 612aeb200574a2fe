package dispatcher

import "ebb.dev/ebb/eventing/event"

// Extensions of a dead letter in the engine: whose it is. Events that are sent to a sink do not have them.
const (
	OwnerExtension        = "ebbowner"        // KIND/NAMESPACE/NAME
	SubscriptionExtension = "ebbsubscription" // the engine's name
	idExtension           = "ebbid"           // the id that the event had
)

// address makes a dead letter that of one subscription. An engine stores a source and id once, and the same event may be a dead letter of
// several subscriptions: so its id is another one, the same whenever this subscription stores it.
func address(dead *event.Event, s *settings) {
	dead.SetExtension(idExtension, dead.ID)
	dead.ID += "@" + s.Name
	dead.SetExtension(OwnerExtension, s.who())
	dead.SetExtension(SubscriptionExtension, s.Name)
}

// Original is the event of a dead letter in the engine, still with what went wrong.
func Original(letter *event.Event) *event.Event {
	e := letter.Clone()
	if id, there := e.Get(idExtension); there {
		e.ID = id
	}
	for _, name := range []string{idExtension, OwnerExtension, SubscriptionExtension} {
		e.RemoveExtension(name)
	}
	return e
}
