import net.sbbi.upnp.impls.InternetGatewayDevice;

/** Searches the router ten times, maps TCP 40001, or deletes it. */
class UPNPLib {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
        case "search":
            int found = 0;
            for (int i = 0; i < 10; i++) {
                found += InternetGatewayDevice.getDevices(2000) == null ? 0 : 1;
            }
            System.out.println("found " + found + " times");
            break;
        case "add":
            InternetGatewayDevice igd = find();
            System.out.println(igd.addPortMapping("a game", "TCP", null, 40001, "192.168.50.10", 8080, 0)
                + " " + igd.getExternalIPAddress());
            break;
        case "delete":
            System.out.println(find().deletePortMapping(null, 40001, "TCP"));
            break;
        }
        System.exit(0);
    }

    static InternetGatewayDevice find() throws Exception {
        for (int i = 0; i < 10; i++) {
            InternetGatewayDevice[] igds = InternetGatewayDevice.getDevices(2000);
            if (igds != null) {
                return igds[0];
            }
        }
        throw new Exception("no router found");
    }
}
