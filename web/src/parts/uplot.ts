// In a file of its own, so that the first screen does not wait for it.
import 'uplot/dist/uPlot.min.css';
export { default } from 'uplot';
