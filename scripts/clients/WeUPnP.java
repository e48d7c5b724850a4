import org.bitlet.weupnp.GatewayDevice;
import org.bitlet.weupnp.GatewayDiscover;

/** Maps TCP 40001, or deletes it. */
class WeUPnP {
    public static void main(String[] args) throws Exception {
        GatewayDiscover discover = new GatewayDiscover();
        discover.discover();
        GatewayDevice gateway = discover.getValidGateway();
        if (args[0].equals("add")) {
            System.out.println(gateway.addPortMapping(40001, 8080, gateway.getLocalAddress().getHostAddress(), "TCP", "a game")
                + " " + gateway.getExternalIPAddress());
        } else {
            System.out.println(gateway.deletePortMapping(40001, "TCP"));
        }
    }
}
