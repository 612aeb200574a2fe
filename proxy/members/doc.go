// Package members knows the activators: who is there, where gateways reach them, and
// who has gone.
//
// In come the streams that activators keep open (link.Membership), and from a [Store] what was known
// before this process began; out go, to a [Follower], the list whenever it changes, and
// what each activator says of the pods it shares. [Registry.Release] and
// [Registry.Left] speak to one of them.
//
// An activator is in the store before it is used, so that a control plane that
// starts again waits for those that may be at work, and no gateway is told to forget them meanwhile.
// One whose stream breaks has a short while to come back; one that says that it leaves has
// none. The last one stays, whether it is there or not: gateways wait for it to come back rather than
// answer at once that there is nobody.
//
// Each has a slot, a small number that names the gateways' way to it and is used again by
// another one later: so a new activator in the place of an old one is a change of an address.
package members
