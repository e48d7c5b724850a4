package daemon

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"igdd/pkg/config"
	"igdd/pkg/hosts"
	"igdd/pkg/pcpd"
	"igdd/pkg/ssdp"
	"igdd/pkg/ssdpd"
	"igdd/pkg/upnp"
	"igdd/pkg/upnpd"
)

// prepareServers makes the servers of the protocols that are enabled.
func (d *Daemon) prepareServers() error {
	if d.config.NATPMP || d.config.PCP {
		d.preparePCP()
	}
	if d.config.UPnP {
		return d.prepareUPnP()
	}
	return nil
}

// preparePCP makes the server of NAT-PMP and PCP.
func (d *Daemon) preparePCP() {
	c := d.config
	d.pcp = pcpd.New(pcpd.Options{
		NATPMP:     c.NATPMP,
		PCP:        c.PCP,
		IPv6:       c.IPv6,
		ThirdParty: c.ThirdParty,
		Peer:       c.Peer,
		RefuseMap:  !c.Map,
		Hosts:      d.lanHosts,
		Table:      d.resolver,
		Log:        d.log,
	})
	d.updates = &pacer{interval: updateInterval, call: d.pcp.Update}
}

// prepareUPnP makes the servers of UPnP.
func (d *Daemon) prepareUPnP() error {
	c := d.config
	gateway, err := gatewayOf(c)
	if err != nil {
		return err
	}
	port := c.HTTPPort
	if port == 0 {
		if port, err = freePort(); err != nil {
			return err
		}
	}
	product := d.product()
	d.http = upnpd.New(upnpd.Options{
		Gateway:  gateway,
		Versions: versions(c.IGDVersion),
		Port:     port,
		IPv6:     c.IPv6,
		Hosts:    d.lanHosts,
		Product:  product,
		Table:    d.resolver,
		Uplink:   d.uplinkState,
		Traffic:  d.uplinkTraffic,
		SameHost: d.resolver.SameHost,
		Packets:  (&packetCounts{read: d.firewall.PinholeCounters}).packets,
		Leased:   d.leased,
		Log:      d.log,
	})
	d.ssdp = ssdpd.New(ssdpd.Options{
		Descriptions: discoveryDescriptions(d.http.Descriptions()),
		Port:         port,
		Hosts:        d.lanHosts,
		IPv6:         c.IPv6,
		Interval:     c.NotifyInterval,
		BootID:       c.BootID,
		Saved:        d.store,
		Product:      product,
		Log:          d.log,
	})
	return nil
}

// servers returns the servers that listen on each LAN interface, by name.
func (d *Daemon) servers() map[string]server {
	servers := make(map[string]server)
	if d.pcp != nil {
		servers["NAT-PMP/PCP"] = server{
			open:    func(l *lanInterface) (listener, error) { return d.pcp.Listen(l) },
			logText: "Listening for NAT-PMP/PCP traffic on port 5351",
		}
	}
	if d.http != nil {
		servers["HTTP"] = server{
			open:    func(l *lanInterface) (listener, error) { return d.http.Listen(l) },
			logText: fmt.Sprintf("HTTP listening on port %d", d.http.HTTPPort()),
		}
		servers["SSDP"] = server{
			open:    func(l *lanInterface) (listener, error) { return d.ssdp.Listen(l) },
			logText: "SSDP listening on port 1900",
		}
	}
	return servers
}

// gatewayOf returns the description of the gateway in the settings.
func gatewayOf(c *config.Config) (upnp.Gateway, error) {
	uuid, err := upnp.ParseUUID(c.Device.UUID)
	if err != nil {
		return upnp.Gateway{}, fmt.Errorf("UUID in the settings: %w", err)
	}
	return upnp.Gateway{
		UUID:             uuid,
		FriendlyName:     c.Device.FriendlyName,
		Manufacturer:     c.Device.Manufacturer,
		ManufacturerURL:  c.Device.ManufacturerURL,
		ModelDescription: c.Device.ModelDescription,
		ModelName:        c.Device.ModelName,
		ModelNumber:      c.Device.ModelNumber,
		ModelURL:         c.Device.ModelURL,
		SerialNumber:     c.Device.Serial,
		PresentationURL:  c.Device.PresentationURL,
		Pinholes:         c.IPv6,
	}, nil
}

// versions returns the device versions that the settings offer.
func versions(v config.IGDVersion) []upnp.Version {
	switch v {
	case config.V1:
		return []upnp.Version{upnp.V1}
	case config.V2:
		return []upnp.Version{upnp.V2}
	}
	return []upnp.Version{upnp.V1, upnp.V2}
}

// discoveryDescriptions returns the descriptions in the form that SSDP needs.
func discoveryDescriptions(descriptions []*upnp.Description) []*ssdp.Description {
	var list []*ssdp.Description
	for _, o := range descriptions {
		description := &ssdp.Description{Path: o.Path(), ConfigID: o.ConfigID}
		for _, d := range o.Devices {
			device := ssdp.Device{UUID: d.UUID.String(), Type: d.Type()}
			for _, s := range d.Services {
				device.Services = append(device.Services, s.Type(s.At(o.Version)))
			}
			description.Devices = append(description.Devices, device)
		}
		list = append(list, description)
	}
	return list
}

// freePort returns a TCP port that is free on all interfaces.
func freePort() (uint16, error) {
	l, err := net.ListenTCP("tcp", nil)
	if err != nil {
		return 0, fmt.Errorf("cannot find a free TCP port for UPnP: %w", err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port), nil
}

// product returns the SERVER field of HTTP and SSDP (UDA 1.1, section 1.2.2).
func (d *Daemon) product() string {
	var name unix.Utsname
	release := ""
	if unix.Uname(&name) == nil {
		release = unix.ByteSliceToString(name.Release[:])
	}
	return fmt.Sprintf("Linux/%s UPnP/1.1 igdd/%s", cmp.Or(release, "0"), cmp.Or(d.version, "0"))
}

// leased returns the addresses that the DHCP server has leased to hosts with a name.
func (d *Daemon) leased(name string) []netip.Addr {
	addrs, err := hosts.Leased(d.config.DHCPLeases, name)
	if err != nil {
		d.log.Debug("cannot read DHCP leases", "err", err)
	}
	return addrs
}
