# Maps TCP 40001, lists its ports, or deletes it.
use strict;
use warnings;
use Net::UPnP::ControlPoint;
use Net::UPnP::GW::Gateway;

my ($gateway) = map { my $g = Net::UPnP::GW::Gateway->new(); $g->setdevice($_); $g }
    grep { $_->getdevicetype() eq 'urn:schemas-upnp-org:device:InternetGatewayDevice:1' }
    Net::UPnP::ControlPoint->new()->search(st => 'upnp:rootdevice', mx => 3);
die "no router found\n" unless $gateway;
my %port = (NewExternalPort => 40001, NewProtocol => 'TCP');
if ($ARGV[0] eq 'add') {
    print $gateway->addportmapping(%port, NewInternalPort => 8080, NewInternalClient => '192.168.50.10',
        NewPortMappingDescription => 'from Perl'), ' ', $gateway->getexternalipaddress(), "\n";
} elsif ($ARGV[0] eq 'list') {
    print "$_->{NewExternalPort} $_->{NewInternalClient}:$_->{NewInternalPort}\n" for $gateway->getportmappingentries();
} else {
    print $gateway->deleteportmapping(%port), "\n";
}
