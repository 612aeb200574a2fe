// Package service makes a Service's Configuration and Route and shows on the Service
// what they say.
//
// In come Services, Configurations and Routes from the cache; out go a Configuration
// and a Route of the Service's name, by server-side apply, and the Service's status. A
// Configuration or Route of that name that belongs to another is left alone and
// reported (NotOwned). The pure parts are makeConfiguration, makeRoute and observe; [Add]
// is for the controller's main program.
package service
